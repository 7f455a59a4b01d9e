"""Term `fgd`: neck features inside and outside the ground truth, and their global context."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.distill.losses.features.alignment import Alignment
from tal_bench.distill.losses.features.fgd import GcBlock, focal, global_relation, region_masks
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, PointLabels, StudentOutputs

BACKGROUND, ATTENTION, CONTEXT = 0.5, 1.0, 1.28
"""Weights of the parts relative to the foreground: the published ones for C = T = 256."""


class FgdLevel(nn.Module):
    """Focal and global loss of a level, of means over channels and valid positions."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.align = Alignment(student, teacher)
        self.student_context, self.teacher_context = GcBlock(teacher), GcBlock(teacher)

    def forward(
        self, student: Tensor, teacher: Tensor, mask: Tensor, labels: PointLabels, stride: int
    ) -> Tensor:
        """Return the loss for features [B, C, T_l] of a level with the given stride."""
        aligned, channels = self.align(student, mask), teacher.shape[1]
        steps = mask.sum().clamp(min=1) / len(mask)
        regions = region_masks(labels.segments, labels.segment_labels >= 0, stride * mask.sum(dim=1), mask)
        parts = focal(aligned, teacher, mask, *regions)
        context = global_relation(
            self.student_context(aligned, mask), self.teacher_context(teacher.detach(), mask), mask
        )
        return (
            (parts.foreground + BACKGROUND * parts.background) / channels
            + ATTENTION * (parts.time_attention / steps + parts.channel_attention / channels)
            + CONTEXT * context / (channels * steps)
        )


class FgdTerm(nn.Module):
    """Mean over levels of the focal and global loss."""

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        widths = student.feature_widths["neck"], teacher.feature_widths["neck"]
        self.levels = nn.ModuleList(FgdLevel(*widths) for _ in range(student.levels))

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch."""
        labels = student.labels
        levels = zip(
            self.levels,
            student.features["neck"],
            teacher.features["neck"],
            student.mask,
            labels.strides,
            strict=True,
        )
        return level_mean(level(s, t, m, labels, stride) for level, s, t, m, stride in levels)


terms.add(
    "fgd",
    Term(
        "fgd",
        None,
        module=FgdTerm,
        search=around(BALANCED["fgd"]),
        weight=BALANCED["fgd"],
        summary="neck features inside and outside the ground truth",
        formula="mean over levels of fg + 0.5 bg + |A_s - A_t| + |Q_s - Q_t| + 1.28 global; fg and bg the "
        "mean over "
        "channels of mask * A_t * Q_t * (neck_student - neck_teacher)^2, the others means over valid "
        "positions "
        "and channels",
        paper="Yang et al., Focal and Global Distillation, CVPR 2022",
        reads={"neck": "any", "labels": "any"},
        normalizer="videos x channels (fg, bg); valid positions; valid positions x channels; levels",
        source="yzd-v/FGD c03a6cf, mmdet/distillation/losses/fgd.py, Apache-2.0",
        differences="means in place of sums divided by the batch size; the ratios of the parts are the "
        "published "
        "ones (1e-3, 5e-4, 1e-3, 5e-6) for 256 channels and 256 steps",
    ),
)
