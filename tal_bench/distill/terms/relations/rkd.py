"""Term `rkd`: distances and angles between time steps."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.relations.rkd import rkd_angle, rkd_distance
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.relations.rows import neck_rows
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs

DISTANCE, ANGLE = 25.0, 50.0
"""Weights of the parts."""


def rkd_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the smooth L1 errors of distances and angles: means over pairs or triples, videos, levels."""
    return level_mean(
        (DISTANCE * rkd_distance(s, t, v) + ANGLE * rkd_angle(s, t, v)).mean()
        for s, t, v in neck_rows(student, teacher)
    )


terms.add(
    "rkd",
    Term(
        "rkd",
        rkd_term,
        search=around(1.0),
        weight=1.0,
        summary="distances and angles between time steps of the neck",
        formula="mean over levels and videos of 25 * mean over pairs of h(d_student - d_teacher) + 50 * "
        "mean over "
        "triples of h(cos_student - cos_teacher), h smooth L1, d distances over their mean",
        paper="Park et al., Relational Distillation, CVPR 2019",
        reads={"neck": "any"},
        normalizer="pairs or triples of rows, videos, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/RKD.py, MIT",
        differences="rows are the time steps of a video, at most 64 of each level, in place of the "
        "samples of a batch",
    ),
)
