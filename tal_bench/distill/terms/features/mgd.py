"""Term `mgd`: the teacher's neck features, generated from visible steps of the student's."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.distill.losses.features.mgd import Generation, kept, mgd
from tal_bench.distill.randomness import StepRandom
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs

HIDDEN = 0.65
"""Share of the steps that are hidden."""


class MgdTerm(nn.Module):
    """Mean squared error of generated neck features: over valid positions and channels, then over levels."""

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        widths = student.feature_widths["neck"], teacher.feature_widths["neck"]
        self.generations = nn.ModuleList(Generation(*widths) for _ in range(student.levels))
        self.random = StepRandom()

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch; the hidden steps differ from call to call."""
        levels = zip(
            self.generations, student.features["neck"], teacher.features["neck"], student.mask, strict=True
        )
        return level_mean(self._level(*level) for level in levels)

    def _level(self, generation: nn.Module, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        keep = kept(self.random(tuple(mask.shape), mask.device), HIDDEN)
        count = mask.sum().clamp(min=1) * teacher.shape[1]
        return mgd(generation(student, keep, mask), teacher, mask) * len(mask) / count


terms.add(
    "mgd",
    Term(
        "mgd",
        None,
        module=MgdTerm,
        search=around(BALANCED["mgd"]),
        weight=BALANCED["mgd"],
        summary="neck features generated from visible steps",
        formula="mean over levels of the mean over valid positions and channels of "
        "(generator(neck_student with 65 % of the steps hidden) - neck_teacher)^2",
        paper="Yang et al., Masked Generative Distillation, ECCV 2022",
        reads={"neck": "any"},
        normalizer="valid positions x channels, levels",
        source="yzd-v/MGD 2c9da0b, det/mmdet/distillation/losses/mgd.py, Apache-2.0",
        differences="a mean in place of the sum divided by the batch size (published weight 2e-5 of a sum)",
    ),
)
