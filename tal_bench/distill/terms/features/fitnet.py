"""Term `fitnet`: projected features of the neck."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.distill.losses.features.fitnet import Projection, fitnet
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


class FitNetTerm(nn.Module):
    """Mean squared error of projected neck features: over valid positions and channels, then over levels."""

    def __init__(self, student: DetectorSpec, teacher: DetectorSpec) -> None:
        super().__init__()
        widths = student.feature_widths["neck"], teacher.feature_widths["neck"]
        self.projections = nn.ModuleList(Projection(*widths, relu=False) for _ in range(student.levels))

    def forward(self, student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
        """Return the value for a batch."""
        levels = zip(
            self.projections, student.features["neck"], teacher.features["neck"], student.mask, strict=True
        )
        return level_mean(fitnet(projection(s, m), t, m) for projection, s, t, m in levels)


terms.add(
    "fitnet",
    Term(
        "fitnet",
        None,
        module=FitNetTerm,
        search=around(100.0),
        weight=100.0,
        summary="projected neck features",
        formula="mean over levels of the mean over valid positions and channels of "
        "(batch_norm(conv1(neck_student)) - neck_teacher)^2",
        paper="Romero et al., FitNets, ICLR 2015",
        reads={"neck": "any"},
        normalizer="valid positions x channels, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/FitNet.py, MIT",
        differences="all levels of the neck; no ReLU after the batch norm, because the features are signed",
    ),
)
