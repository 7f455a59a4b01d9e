"""Term `sp`: similarities of time steps."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.relations.sp import sp
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.relations.rows import neck_rows
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs


def sp_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the squared distance of the unit rows of similarities: mean over rows, videos and levels.

    The published mean over pairs falls like 1 / R, because a unit row is spread over R entries.
    """
    return level_mean((sp(s, t, v) * v.sum(dim=1)).mean() for s, t, v in neck_rows(student, teacher))


terms.add(
    "sp",
    Term(
        "sp",
        sp_term,
        search=around(BALANCED["sp"]),
        weight=BALANCED["sp"],
        summary="similarities of time steps of the neck",
        formula="mean over levels, videos and rows of the sum over j of (G_student - G_teacher)_ij^2, G "
        "the products "
        "of time steps with unit rows",
        paper="Tung and Mori, Similarity-Preserving Distillation, ICCV 2019",
        reads={"neck": "any"},
        normalizer="rows, videos, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/SP.py, MIT",
        differences="rows are the time steps of a video, at most 64 of each level, in place of the "
        "samples of a "
        "batch; summed over j in place of averaged (published weight 3000 of a mean)",
    ),
)
