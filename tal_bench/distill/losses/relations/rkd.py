"""RKD: relational distillation by distances and angles.

Park et al., Relational Knowledge Distillation, CVPR 2019, arXiv 1904.05068.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.relations.rows import mean_of_pairs, pairs


def rkd_distance(
    student: Tensor, teacher: Tensor, valid: Tensor, *, squared: bool = False, eps: float = 1e-12
) -> Tensor:
    """Return, for each set, the mean smooth L1 error of the distances over all pairs of rows: [G].

    Distances are divided by their mean over the pairs of different rows; that of the student carries
    gradient.

    Args:
        student: [G, R, C_s], zero where not valid.
        teacher: [G, R, C_t], detached.
        valid: [G, R] bool.
        squared: Whether distances are squared.
        eps: Smallest squared distance of two different rows.
    """
    s, t = (distances(x, valid, squared=squared, eps=eps) for x in (student, teacher.detach()))
    return mean_of_pairs(F.smooth_l1_loss(s, t, reduction="none"), valid)


def distances(rows: Tensor, valid: Tensor, *, squared: bool, eps: float) -> Tensor:
    """Return the distances of all pairs of rows over their mean, 0 on the diagonal: [G, R, R]."""
    gram = rows @ rows.transpose(1, 2)
    length = gram.diagonal(dim1=1, dim2=2)
    square = (length[:, :, None] + length[:, None, :] - 2 * gram).clamp(min=eps)
    different = pairs(valid).clone()
    different.diagonal(dim1=1, dim2=2).fill_(False)
    distance = (square if squared else square.sqrt()).masked_fill(~different, 0.0)
    mean = distance.sum(dim=(1, 2)) / different.sum(dim=(1, 2)).clamp(min=1)
    return distance / mean.masked_fill(mean == 0, 1.0)[:, None, None]


def rkd_angle(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Return, for each set, the mean smooth L1 error of the cosines of angles over all triples of rows: [G].

    Memory grows with the cube of R.

    Args:
        student: [G, R, C_s].
        teacher: [G, R, C_t], detached.
        valid: [G, R] bool.
    """
    error = F.smooth_l1_loss(angles(student), angles(teacher.detach()), reduction="none")
    triples = pairs(valid)[:, :, :, None] & valid[:, None, None, :]
    count = valid.sum(dim=1).pow(3).clamp(min=1)
    return error.masked_fill(~triples, 0.0).sum(dim=(1, 2, 3)) / count


def angles(rows: Tensor) -> Tensor:
    """Return the cosine of the angle at row i between rows j and k: [G, R, R, R]."""
    unit = F.normalize(rows[:, None] - rows[:, :, None], dim=3)
    return unit @ unit.transpose(2, 3)


def l2_normalised(rows: Tensor) -> Tensor:
    """Return rows [G, R, C] scaled to unit length, as in mmrazor's version."""
    return F.normalize(rows, dim=2)
