"""Term `vid`: likelihood of the teacher's neck features."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.distill.losses.features.vid import Regressor, vid
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


class VidTerm(nn.Module):
    """Gaussian negative log-likelihood of the teacher's neck, a mean over valid positions, channels, levels.

    A regressor per level predicts the mean from the student's neck; the variance is learned per channel. The
    value can be negative.
    """

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        widths = student.feature_widths["neck"], teacher.feature_widths["neck"]
        self.regressors = nn.ModuleList(Regressor(*widths) for _ in range(student.levels))

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch."""
        levels = zip(
            self.regressors, student.features["neck"], teacher.features["neck"], student.mask, strict=True
        )
        return level_mean(self._level(*level) for level in levels)

    def _level(self, regressor: nn.Module, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        mean, variance = regressor(student, mask)
        return vid(mean, variance, teacher, mask)


terms.add(
    "vid",
    Term(
        "vid",
        None,
        module=VidTerm,
        search=around(1.0),
        weight=1.0,
        summary="likelihood of the teacher's neck features",
        formula="mean over levels of 1/2 the mean over valid positions and channels of "
        "(regressor(neck_student) - neck_teacher)^2 / v + log v, v a learned variance per channel",
        paper="Ahn et al., Variational Information Distillation, CVPR 2019",
        reads={"neck": "any"},
        normalizer="valid positions x channels, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/VID.py, MIT",
        differences="mean over levels in place of the sum; the variances are trained",
    ),
)
