"""Terms `decomposed-features` and `decomposed-branches`: a motion branch and an appearance branch.

Lee et al., Decomposed Cross-modal Distillation for RGB-based Temporal Action Detection, CVPR 2023, arXiv
2303.17285. No code of the authors is public. Known from abstract and summaries of the paper:

- a motion teacher, which reads flow, is trained first and then frozen;
- a projection over time makes the features of a motion branch and of an appearance branch from the features
  of the RGB backbone;
- the motion branch imitates the teacher, the appearance branch learns from labels alone (asymmetric
  objectives), and both share classifier and regressor, so that the features must differ and not the heads;
- fusion: weight_t = sigmoid((W_query mean over time of target) * (W_key reference_t)), each branch being the
  target once; the enhanced branches are concatenated and read by joint heads, which alone are kept.

Assumed, because nothing public says it:

- the branches divide after the neck, level by level, because the features are extracted before training; a
  branch is a convolution of kernel 3, LayerNorm and ReLU; its width is that of the neck;
- the enhanced target is weight_t * target_t; W_query and W_key are shared by the levels;
- the motion branch imitates features (mean squared error after a learned projection) and predictions (the
  forms of BCKD and CrossKD for sigmoid heads); the weights follow the rule of `distill/terms/weights.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.distill.losses.localization.decomposed import appearance_loss, motion_loss
from tal_bench.distill.losses.masking import valid_features
from tal_bench.distill.terms.offsets import class_average
from tal_bench.distill.terms.predictions.labels import joined
from tal_bench.distill.terms.reductions import level_mean, mean_square
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.models.heads.point import Heads
from tal_bench.types import Outputs, StudentOutputs

PAPER = "Lee et al., Decomposed Cross-modal Distillation, CVPR 2023"
SOURCE = "description of arXiv 2303.17285; no public code"


class DecomposedFeatures(nn.Module):
    """Mean squared error of the projected motion branch: over valid positions and channels, then levels."""

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        widths = student.feature_widths["motion"], teacher.feature_widths["neck"]
        self.projections = nn.ModuleList(nn.Conv1d(*widths, 1) for _ in range(student.levels))

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch."""
        levels = zip(
            self.projections, student.features["motion"], teacher.features["neck"], student.mask, strict=True
        )
        return level_mean(mean_square(project(valid_features(s, m)), t, m) for project, s, t, m in levels)


class BranchDetection(nn.Module):
    """Detection losses of both branches with shared heads, which are dropped after the training."""

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        self.heads = Heads(student.model_copy(update={"inputs": "primary"}))

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch."""
        mask, labels = joined(student.mask), student.labels
        levels = [
            torch.cat([valid_features(motion, m), valid_features(appearance, m)]).transpose(1, 2)
            for motion, appearance, m in zip(
                student.features["motion"], student.features["appearance"], student.mask, strict=True
            )
        ]
        masks = [torch.cat([m, m])[:, :, None].to(levels[0].dtype) for m in student.mask]
        found = self.heads(levels, masks)
        logits, offsets = _halves(found.logits), _halves(found.offsets)
        return appearance_loss(
            logits[1], offsets[1], joined(list(labels.classes)), joined(list(labels.offsets)), mask,
            labels.count,
        ) + motion_loss(
            logits[0], offsets[0], joined(teacher.logits), joined(class_average(teacher)), mask, labels.count
        )  # fmt: skip


def _halves(levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """[2B, T_l, C] per level -> [B, sum of T_l, C] of the first B and of the last B."""
    return joined(list(levels)).chunk(2)


terms.add(
    "decomposed-features",
    Term(
        "decomposed-features",
        None,
        module=DecomposedFeatures,
        search=around(BALANCED["decomposed-features"]),
        weight=BALANCED["decomposed-features"],
        summary="motion branch against the neck of the motion teacher",
        formula="mean over levels of the mean over valid positions and channels of "
        "(conv1(motion_student) - neck_teacher)^2",
        paper=PAPER,
        reads={"motion": "student", "neck": "teacher"},
        normalizer="valid positions x channels, levels",
        source=SOURCE,
        differences="assumed: that features are imitated, by a mean squared error after a projection, level "
        "by level after the neck; the weight",
    ),
)
terms.add(
    "decomposed-branches",
    Term(
        "decomposed-branches",
        None,
        module=BranchDetection,
        search=around(BALANCED["decomposed-branches"]),
        weight=BALANCED["decomposed-branches"],
        summary="heads shared by a motion branch that learns from the teacher and an appearance branch that "
        "learns from labels",
        formula="1 / positives * (sum of focal loss and DIoU of heads(appearance_student) to labels + sum of "
        "|p_t - p| * BCE(p, p_t) and max p_t * (1 - GIoU) of heads(motion_student) to the teacher)",
        paper=PAPER,
        reads={
            "motion": "student", "appearance": "student", "logits": "equal", "offsets": "any", "labels": "any"
        },
        normalizer="positives",
        source=SOURCE,
        differences="known: two branches, shared heads that are dropped, a flow teacher for motion, labels "
        "for appearance, sigmoid attention of each branch on the other, joint heads on the concatenation; "
        "assumed: branches of one convolution after the neck, enhanced features = weight x features, the "
        "losses of the motion branch, the weight",
    ),
)  # fmt: skip
