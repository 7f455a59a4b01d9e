"""Term `stem`: features before the first stride."""

from __future__ import annotations

from torch import Tensor

from tal_bench.config import Range
from tal_bench.distill.terms.reductions import mean_square
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.types import Outputs


def stem(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean squared error of the features before the first stride, [B, D, T] both."""
    return mean_square(student.stem, teacher.stem, student.mask[0])


terms.add(
    "stem",
    Term(
        "stem",
        stem,
        search=Range(low=0.1, high=5.0),
        reads={"stem": "project"},
        summary="features before the first stride",
        formula="mean over valid positions and channels of (stem_student - stem_teacher)^2",
        paper="C2MS-Net (2026)",
        normalizer="valid positions x channels",
        weight=1.0,
    ),
)
