"""Term `pkd`: correlation of neck features."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.features.pkd import pkd
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


def pkd_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return half the mean squared error of standardised neck features, over valid positions and channels.

    Then the mean over levels. Mean and deviation of a channel are those of all valid positions of the level
    in the batch.
    """
    levels = zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True)
    return level_mean(pkd(s, t, m) for s, t, m in levels)


terms.add(
    "pkd",
    Term(
        "pkd",
        pkd_term,
        search=around(6.0),
        weight=6.0,
        summary="correlation of neck features",
        formula="mean over levels of 1/2 the mean over valid positions and channels of (z_student - "
        "z_teacher)^2, "
        "z the neck feature standardised per channel",
        paper="Cao et al., PKD, NeurIPS 2022",
        reads={"neck": "project"},
        normalizer="valid positions x channels, levels",
        source="open-mmlab/mmrazor 90c7af1, mmrazor/models/losses/pkd_loss.py, Apache-2.0",
        differences="mean over levels in place of the sum",
    ),
)
