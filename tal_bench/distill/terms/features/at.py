"""Term `at`: attention maps of the neck."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.features.at import at
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs


def at_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the squared distance of the unit attention maps: mean over videos, then over levels.

    The published mean over time falls like 1 / T, because a unit vector is spread over T steps.
    """
    levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return level_mean(at(s, t, m) * m.sum() / len(m) for s, t, m in levels)


terms.add(
    "at",
    Term(
        "at",
        at_term,
        search=around(BALANCED["at"]),
        weight=BALANCED["at"],
        summary="attention over time of the neck",
        formula="mean over levels and videos of the sum over valid steps of (q_student - q_teacher)^2, "
        "q the unit vector of the channel mean of neck^2",
        paper="Zagoruyko and Komodakis, Attention Transfer, ICLR 2017",
        reads={"neck": "any"},
        normalizer="videos, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/AT.py, MIT",
        differences="summed over time in place of averaged (published weight 1000 of a mean); mean over "
        "levels",
    ),
)
