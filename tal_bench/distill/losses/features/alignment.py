"""Student features in the width of the teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.distill.losses.masking import valid_features


class Alignment(nn.Module):
    """1x1 convolution of the student's features to the teacher's width; nothing where the widths agree.

    Args:
        student: Channels of the student.
        teacher: Channels of the teacher.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(student, teacher, 1) if student != teacher else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return [B, C, T] for [B, C_s, T], zero where the mask [B, T] is false."""
        x = valid_features(x, mask)
        return x if self.conv is None else valid_features(self.conv(x), mask)
