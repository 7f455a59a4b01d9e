"""LD: distributions over distance bins.

Zheng et al., Localization Distillation for Dense Object Detection, CVPR 2022, arXiv 2102.12252.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import divergence, mean_over, valid_rows


def ld(
    student: Tensor, teacher: Tensor, weight: Tensor, mask: Tensor, *, temperature: float = 10.0
) -> Tensor:
    """Return tau^2 / n times the weighted sum over positions and edges of KL(bins), n the number of bins.

    Args:
        student: [B, T, 2, n] logits of the distance bins of start and end.
        teacher: [B, T, 2, n], detached.
        weight: [B, T], weights of the positions: `score_weight` at positives, or those of a region.
        mask: [B, T] bool.
        temperature: tau of the softmax over bins.
    """
    log_p, log_q = (
        (valid_rows(x, mask) / temperature).log_softmax(dim=3) for x in (teacher.detach(), student)
    )
    per_position = divergence(log_p, log_q).sum(dim=2)
    return temperature**2 / student.shape[3] * (per_position * valid_rows(weight, mask)).sum()


def score_weight(student: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
    """Return the student's best score at positives and 0 elsewhere, detached: [B, T] for logits [B, T, K]."""
    return valid_rows(student.detach(), mask).sigmoid().amax(dim=2) * (positive & mask)


def ld_classes(
    student: Tensor, teacher: Tensor, positive: Tensor, mask: Tensor, *, temperature: float = 2.0
) -> Tensor:
    """Return tau^2 / K times the mean over positives of KL over classes.

    Args:
        student: [B, T, K] logits.
        teacher: [B, T, K] logits, detached.
        positive: [B, T] bool.
        mask: [B, T] bool.
        temperature: tau of the softmax over classes.
    """
    log_p, log_q = (
        (valid_rows(x, mask) / temperature).log_softmax(dim=2) for x in (teacher.detach(), student)
    )
    return temperature**2 / student.shape[2] * mean_over(divergence(log_p, log_q), positive & mask)
