"""Term `pkt`: similarities of time steps as probabilities."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.relations.pkt import pkt
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.relations.rows import neck_rows
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs


def pkt_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return KL(teacher || student) of the rows of similarities: mean over rows, videos and levels.

    The published mean over pairs is 1 / R of it.
    """
    return level_mean((pkt(s, t, v) * v.sum(dim=1)).mean() for s, t, v in neck_rows(student, teacher))


terms.add(
    "pkt",
    Term(
        "pkt",
        pkt_term,
        search=around(BALANCED["pkt"]),
        weight=BALANCED["pkt"],
        summary="similarities of time steps of the neck as probabilities",
        formula="mean over levels, videos and rows of KL(P_teacher || P_student), P the (cosine + 1) / 2 "
        "of time steps "
        "divided by its sum",
        paper="Passalis and Tefas, Probabilistic Knowledge Transfer, ECCV 2018",
        reads={"neck": "any"},
        normalizer="rows, videos, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/PKT.py, MIT",
        differences="rows are the time steps of a video, at most 64 of each level, in place of the "
        "samples of a "
        "batch; summed over j in place of averaged (published weight 30000 of a mean)",
    ),
)
