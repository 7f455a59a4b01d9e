"""SP: similarity-preserving distillation.

Tung, Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, arXiv 1907.09682.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.relations.rows import mean_of_pairs, pairs


def sp(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Return, for each set, the mean over pairs of rows of the squared difference of similarities: [G].

    Args:
        student: [G, R, C_s], zero where not valid.
        teacher: [G, R, C_t], detached.
        valid: [G, R] bool.
    """
    difference = similarities(student, valid) - similarities(teacher.detach(), valid)
    return mean_of_pairs(difference.square(), valid)


def similarities(rows: Tensor, valid: Tensor) -> Tensor:
    """Return the products of all pairs of rows, each row of the matrix scaled to unit length: [G, R, R]."""
    return F.normalize((rows @ rows.transpose(1, 2)).masked_fill(~pairs(valid), 0.0), dim=2)
