"""PKD: Pearson correlation of features.

Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
NeurIPS 2022, arXiv 2207.02039.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import channel_moments, mean_over, valid_features


def pkd(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return half the mean over channels and valid steps of the squared difference of standardised features.

    Args:
        student: [B, C, T]; its mean and deviation carry gradient.
        teacher: [B, C, T], detached.
        mask: [B, T] bool.
    """
    difference = standardised(student, mask) - standardised(teacher.detach(), mask)
    return 0.5 * mean_over(difference.square().mean(dim=1), mask)


def standardised(x: Tensor, mask: Tensor) -> Tensor:
    """Return (x - mean) / (deviation + 1e-6), per channel over all valid steps of the batch: [B, C, T]."""
    mean, deviation = channel_moments(x, mask, correction=1)
    return (valid_features(x, mask) - mean) / (deviation + 1e-6)
