"""VID: variational information.

Ahn et al., Variational Information Distillation for Knowledge Transfer, CVPR 2019, arXiv 1904.05835.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.distill.losses.masking import mean_over, valid_features


def vid(mean: Tensor, variance: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return half the mean over channels and valid steps of (mean - teacher)^2 / variance + log variance.

    This is the negative log-likelihood of the teacher without its constant, so it can be negative.

    Args:
        mean: [B, C, T], predicted by `Regressor` from the student.
        variance: [C], of `Regressor`.
        teacher: [B, C, T], detached.
        mask: [B, T] bool.
    """
    squares = (valid_features(mean, mask) - valid_features(teacher.detach(), mask)).square()
    return 0.5 * mean_over((squares / variance[:, None] + variance.log()[:, None]).mean(dim=1), mask)


class Regressor(nn.Module):
    """Three 1x1 convolutions without bias from student features to the mean of the teacher's.

    Args:
        student: Channels of the student.
        teacher: Channels of the teacher.
        initial_variance: Variance of every channel at the start.
        eps: Smallest variance.
    """

    def __init__(
        self, student: int, teacher: int, *, initial_variance: float = 5.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(student, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv1d(teacher, teacher, 1, bias=False),
            nn.ReLU(),
            nn.Conv1d(teacher, teacher, 1, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((teacher,), math.log(math.expm1(initial_variance - eps))))
        self.eps = eps

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean [B, C, T] for student features [B, C_s, T], and the variance [C]."""
        return self.layers(valid_features(x, mask)), F.softplus(self.log_scale) + self.eps
