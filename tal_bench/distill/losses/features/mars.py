"""MARS: mean squared error of time-averaged features.

Crasto et al., MARS: Motion-Augmented RGB Stream for Action Recognition, CVPR 2019.
"""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import time_mean


def mars(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over samples and channels of (time mean of student - time mean of teacher)^2.

    Args:
        student: [B, C, T].
        teacher: [B, C, T], detached.
        mask: [B, T] bool; each sample is averaged over its own valid steps.
    """
    return (time_mean(student, mask) - time_mean(teacher.detach(), mask)).square().mean()
