"""Term `reviewkd`: neck features at several lengths."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.features.reviewkd import hierarchical_context
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


def reviewkd_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean squared error of neck features at full length and pooled to 4, 2 and 1 steps.

    A mean over valid positions and channels of each video, over videos and over levels.
    """
    levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return level_mean(hierarchical_context(s, t, m) for s, t, m in levels)


terms.add(
    "reviewkd",
    Term(
        "reviewkd",
        reviewkd_term,
        search=around(1.0),
        weight=1.0,
        summary="neck features at full length and pooled",
        formula="mean over levels and videos of (MSE + 1/2 MSE_4 + 1/4 MSE_2 + 1/8 MSE_1) / (1 + 1/2 + "
        "1/4 + 1/8), "
        "MSE_k of neck features pooled to k steps",
        paper="Chen et al., Knowledge Review, CVPR 2021",
        reads={"neck": "project"},
        normalizer="valid positions x channels, videos, levels",
        source="megvii-research/mdistiller a08d46f, mdistiller/distillers/ReviewKD.py, MIT",
        differences="without the fusion modules; a neck fuses levels already; mean over levels in place "
        "of the sum",
    ),
)
