"""BCKD: binary classification and IoU-based localization.

Yang et al., Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection, ICCV
2023, arXiv 2308.14286.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.masking import full, valid_rows

EPSILON = torch.finfo(torch.float32).eps
"""Added by the original to the number of positives, whatever the precision."""


def bckd_classification(
    student: Tensor,
    teacher: Tensor,
    weight: Tensor,
    mask: Tensor,
    positives: Tensor | float,
    *,
    beta: float = 1.0,
) -> Tensor:
    """Return the binary cross entropy to the teacher's scores, weighted by |sigma_t - sigma_s|^beta.

    The sum over positions and classes is divided by the number of positives. The factor carries gradient.

    Args:
        student: [B, T, K] logits of sigmoid heads.
        teacher: [B, T, K] logits, detached.
        weight: [B, T], weights of the positions.
        mask: [B, T] bool.
        positives: Number of positive positions, at least 1.
        beta: Exponent of the difference of the scores.
    """
    s, t = valid_rows(student, mask), valid_rows(teacher.detach(), mask).sigmoid()
    entropy = F.binary_cross_entropy_with_logits(s, t, reduction="none")
    per_position = ((s.sigmoid() - t).abs().pow(beta) * entropy).sum(dim=2)
    return (per_position * valid_rows(weight, mask)).sum() / (positives + EPSILON)


def localization_weight(student: Tensor, teacher: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Return the weight times the largest |sigma_t - sigma_s| over classes, detached: [B, T]."""
    s, t = (valid_rows(x.detach(), mask).sigmoid() for x in (student, teacher))
    return valid_rows(weight, mask) * (s - t).abs().amax(dim=2)


def bckd_localization(
    student: Tensor, teacher: Tensor, weight: Tensor, mask: Tensor, positives: Tensor | float
) -> Tensor:
    """Return the weighted sum over positions of 1 - GIoU over the number of positives.

    Args:
        student: [B, T, 2], starts and ends.
        teacher: [B, T, 2], detached.
        weight: [B, T] from `localization_weight`.
        mask: [B, T] bool.
        positives: Number of positive positions, at least 1.
    """
    giou = segment_giou(valid_rows(student, mask), valid_rows(teacher.detach(), mask))
    return (valid_rows(weight, mask) * (1 - giou)).sum() / (positives + EPSILON)


def segment_giou(x: Tensor, y: Tensor) -> Tensor:
    """Return the generalised IoU [...] of segments [..., 2]."""
    x, y = full(x), full(y)
    (start_x, end_x), (start_y, end_y) = x.unbind(-1), y.unbind(-1)
    overlap = (torch.minimum(end_x, end_y) - torch.maximum(start_x, start_y)).clamp(min=0)
    union = (end_x - start_x + end_y - start_y - overlap).clamp(min=1e-6)
    hull = (torch.maximum(end_x, end_y) - torch.minimum(start_x, start_y)).clamp(min=1e-6)
    return overlap / union - (hull - union) / hull
