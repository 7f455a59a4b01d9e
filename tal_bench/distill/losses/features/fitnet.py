"""FitNet: mean squared error of projected student features.

Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv 1412.6550.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.distill.losses.masking import channel_moments, mean_over, valid_features


def fitnet(projected: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (projected - teacher)^2 over channels and all valid steps of the batch.

    Args:
        projected: [B, C, T], student features after `Projection`.
        teacher: [B, C, T], detached.
        mask: [B, T] bool.
    """
    difference = valid_features(projected, mask) - valid_features(teacher.detach(), mask)
    return mean_over(difference.square().mean(dim=1), mask)


class Projection(nn.Module):
    """Student features [B, C_s, T] to the width of the teacher, [B, C, T].

    Args:
        student: Channels of the student.
        teacher: Channels of the teacher.
        norm: Whether batch norm with the statistics of the batch follows the 1x1 convolution. The
            module is used in training only, so it keeps no running statistics.
        relu: Whether ReLU follows; with both, the projection is the one that published code uses.
    """

    EPS = 1e-5

    def __init__(self, student: int, teacher: int, *, norm: bool = True, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv1d(student, teacher, 1)
        self.scale = nn.Parameter(torch.ones(teacher)) if norm else None
        self.shift = nn.Parameter(torch.zeros(teacher)) if norm else None
        self.relu = relu

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Project [B, C_s, T]; mean and variance are those of the valid steps and carry gradient."""
        y: Tensor = self.conv(valid_features(x, mask))
        if self.scale is not None and self.shift is not None:
            mean, deviation = channel_moments(y, mask, correction=0)
            inverse = (deviation.square() + self.EPS).rsqrt()
            y = (y - mean) * (inverse * self.scale[:, None]) + self.shift[:, None]
        return F.relu(y) if self.relu else y
