"""Term `mars`: features of the neck, averaged over time."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.features.mars import mars
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


def mars_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the mean over levels, videos and channels of the squared error of time-averaged features."""
    levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return level_mean(mars(s, t, m) for s, t, m in levels)


terms.add(
    "mars",
    Term(
        "mars",
        mars_term,
        search=around(50.0),
        weight=50.0,
        summary="time-averaged neck features",
        formula="mean over levels, videos and channels of (time mean of neck_student - time mean of "
        "neck_teacher)^2",
        paper="Crasto et al., MARS, CVPR 2019",
        reads={"neck": "project"},
        normalizer="videos x channels, levels",
        source="craston/MARS d5ffb01, MARS_train.py, MIT",
        differences="all levels of the neck in place of the vector before the classifier",
    ),
)
