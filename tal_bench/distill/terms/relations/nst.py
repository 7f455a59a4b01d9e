"""Term `nst`: where the channels of the neck are active."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.relations.nst import nst
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


def nst_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the discrepancy of the channels: means over videos and pairs of channels, then over levels."""
    levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return level_mean(nst(s, t, m) for s, t, m in levels)


terms.add(
    "nst",
    Term(
        "nst",
        nst_term,
        search=around(50.0),
        weight=50.0,
        summary="where the channels of the neck are active",
        formula="mean over levels of k(t, t) + k(s, s) - 2 k(s, t), k the mean over videos and pairs of "
        "channels of the "
        "squared product of channels of unit length over time",
        paper="Huang and Wang, Neuron Selectivity Transfer (2017)",
        reads={"neck": "any"},
        normalizer="videos x pairs of channels, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/NST.py, MIT",
        differences="mean over levels in place of the sum",
    ),
)
