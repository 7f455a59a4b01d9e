"""MGD: masked generative distillation, in its version for detection.

Yang et al., Masked Generative Distillation, ECCV 2022, arXiv 2205.01529.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.distill.losses.features.alignment import Alignment
from tal_bench.distill.losses.masking import valid_features


def mgd(generated: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over channels and valid steps of (generated - teacher)^2, averaged over samples.

    Args:
        generated: [B, C, T], made by `Generation` from the student.
        teacher: [B, C, T], detached.
        mask: [B, T] bool.
    """
    difference = valid_features(generated, mask) - valid_features(teacher.detach(), mask)
    return difference.square().sum() / len(mask)


def kept(random: Tensor, hidden: float) -> Tensor:
    """Return which steps [B, T] stay visible, from uniform numbers; a share `hidden` of them does not."""
    return random <= 1 - hidden


class Generation(nn.Module):
    """Student features with hidden steps to the features of the teacher: two convolutions of kernel 3.

    Args:
        student: Channels of the student; if they differ from the teacher's, a 1x1 convolution comes first.
        teacher: Channels of the teacher.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.align = Alignment(student, teacher)
        self.first = nn.Conv1d(teacher, teacher, 3, padding=1)
        self.second = nn.Conv1d(teacher, teacher, 3, padding=1)

    def forward(self, x: Tensor, keep: Tensor, mask: Tensor) -> Tensor:
        """Generate [B, C, T] from [B, C_s, T] and visible steps; both convolutions see zero padding."""
        visible = valid_features(self.align(x, mask), mask & keep)
        hidden = valid_features(F.relu(self.first(visible)), mask)
        generated: Tensor = self.second(hidden)
        return generated


def random_steps(mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return uniform numbers for `kept`, in the shape [B, T] of the mask."""
    return torch.rand(mask.shape, generator=generator, device=mask.device)
