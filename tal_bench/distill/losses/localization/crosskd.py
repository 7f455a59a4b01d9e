"""CrossKD: student features through the frozen head of the teacher.

Wang et al., CrossKD: Cross-Head Knowledge Distillation for Object Detection, CVPR 2024, arXiv 2306.11369.

The classification loss on the reused logits is `bckd_classification`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tal_bench.distill.losses.masking import channel_moments, divergence, valid_features, valid_rows

Head = Callable[[Tensor, Tensor], Tensor]
"""The teacher's remaining head: features [B, C, T] and mask [B, T] to predictions."""


def aligned(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return student features [B, C, T] with the teacher's mean and deviation of each channel.

    Both are taken over all valid steps of the batch; those of the student carry gradient.
    """
    mean_s, deviation_s = channel_moments(student, mask, correction=1)
    mean_t, deviation_t = channel_moments(teacher.detach(), mask, correction=1)
    z = (valid_features(student, mask) - mean_s) / (deviation_s + 1e-6)
    return z * deviation_t + mean_t


def reused(head: Head, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return what the teacher's head predicts from aligned student features.

    Args:
        head: Remaining head of the teacher, whose parameters are not trained.
        student: [B, C, T], output of a head convolution of the student before its activation.
        teacher: [B, C, T], the same of the teacher, detached.
        mask: [B, T] bool.
    """
    return head(valid_features(aligned(student, teacher, mask), mask), mask)


def region_weight(teacher: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Return the teacher's best score where the weight is not 0, else 0: [B, T] for logits [B, T, K]."""
    score = valid_rows(teacher.detach(), mask).sigmoid().amax(dim=2)
    return score.masked_fill(~mask | (weight == 0), 0.0)


def crosskd_localization(
    reused_bins: Tensor, teacher: Tensor, weight: Tensor, mask: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Return tau^2 times the weighted mean over positions, and mean over edges, of KL(bins).

    Args:
        reused_bins: [B, T, 2, n], bins predicted by the teacher's head from the student.
        teacher: [B, T, 2, n], bins of the teacher, detached.
        weight: [B, T] from `region_weight`.
        mask: [B, T] bool.
        temperature: tau of the softmax over bins.
    """
    log_p, log_q = (
        (valid_rows(x, mask) / temperature).log_softmax(dim=3) for x in (teacher.detach(), reused_bins)
    )
    weight = valid_rows(weight, mask)
    total = (divergence(log_p, log_q).sum(dim=2) * weight).sum()
    edges = reused_bins.shape[2] + torch.finfo(torch.float32).eps / 2  # the original's own rounding
    return temperature**2 * total / (edges * weight.sum()).clamp(min=torch.finfo(total.dtype).tiny)
