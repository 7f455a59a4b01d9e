"""ReviewKD: hierarchical context loss; the fusion modules of the paper are not included.

Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021, arXiv 2104.09044.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.masking import valid_features

POOLED = (4, 2, 1)
"""Lengths to which features are pooled."""


def hierarchical_context(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error at full length and pooled to 4, 2 and 1 steps, weighted 1, 1/2, 1/4, 1/8.

    The weights are divided by their sum. Pooled lengths that are not shorter than the valid part of a
    sample are left out for it. The loss is the mean over samples, and at each length over channels and
    steps.

    Args:
        student: [B, C, T].
        teacher: [B, C, T], detached.
        mask: [B, T] bool; each sample is pooled over its own valid steps.
    """
    difference = valid_features(student, mask) - valid_features(teacher.detach(), mask)
    steps = mask.sum(dim=1)
    total = difference.square().mean(dim=1).sum(dim=1) / steps.clamp(min=1)
    weight, weights = torch.ones_like(total), torch.ones_like(total)
    for length in POOLED:
        used = length < steps
        weight = torch.where(used, weight / 2, weight)
        pooled = difference @ windows(mask, length, difference.dtype)
        total = total + used * weight * pooled.square().mean(dim=(1, 2))
        weights = weights + used * weight
    return (total / weights).mean()


def windows(mask: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Return [B, T, length], the share of each step in each window of adaptive average pooling.

    Window i holds the valid steps floor(i n / length) to ceil((i + 1) n / length) - 1 of n; windows may
    overlap.
    """
    n = mask.sum(dim=1)[:, None, None]
    i = torch.arange(length, device=mask.device)
    first, last = i * n // length, -(-(i + 1) * n // length) - 1
    position = (mask.cumsum(dim=1) - 1)[:, :, None]
    inside = mask[:, :, None] & (position >= first) & (position <= last)
    return inside.to(dtype) / (last - first + 1).clamp(min=1)
