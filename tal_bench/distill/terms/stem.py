"""Term `stem`: features before the first stride."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.terms.reductions import mean_square
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs


def stem(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean squared error of the features before the first stride, [B, D, T] both."""
    return mean_square(student.stem, teacher.stem, student.mask[0])


terms.add(
    "stem",
    Term(
        "stem",
        stem,
        search=around(BALANCED["stem"]),
        reads={"stem": "project"},
        summary="features before the first stride",
        formula="mean over valid positions and channels of (stem_student - stem_teacher)^2",
        paper="C2MS-Net (2026)",
        normalizer="valid positions x channels",
        weight=BALANCED["stem"],
    ),
)
