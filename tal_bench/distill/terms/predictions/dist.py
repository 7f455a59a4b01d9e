"""Terms `dist` and `dist-binary`: correlation of the class scores."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.logits.dist import dist_inter, dist_intra
from tal_bench.distill.losses.masking import full
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs

SOURCE = "hunto/image_classification_sota 6f7a70a, lib/models/losses/dist_kd.py, Apache-2.0"
PAPER = "Huang et al., DIST, NeurIPS 2022"


def dist_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 (inter + intra) of the softmax over classes, averaged over levels.

    inter is a mean over valid positions, intra a mean over classes.
    """

    def level(s: Tensor, t: Tensor, m: Tensor) -> Tensor:
        p, q = ((full(x) / temperature).softmax(dim=2) for x in (s, t))
        return dist_inter(p, q, m) + dist_intra(p, q, m)

    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    return temperature**2 * level_mean(level(*one) for one in levels)


def dist_binary_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 intra of the sigmoid, a mean over classes and levels.

    The correlation over classes is left out: scores of independent classes do not share a distribution.
    """
    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    return temperature**2 * level_mean(
        dist_intra((full(s) / temperature).sigmoid(), (full(t) / temperature).sigmoid(), m)
        for s, t, m in levels
    )


terms.add(
    "dist",
    Term(
        "dist",
        dist_term,
        search=around(1.0),
        weight=1.0,
        summary="correlation of softmax scores",
        formula="tau^2 * mean over levels of (1 - mean over valid positions of r over classes) + (1 - "
        "mean over classes "
        "of r over valid positions), r Pearson of softmax(logits / tau)",
        paper=PAPER,
        reads={"logits": "equal"},
        normalizer="valid positions; classes; levels",
        source=SOURCE,
        least_classes=2,
    ),
)
terms.add(
    "dist-binary",
    Term(
        "dist-binary",
        dist_binary_term,
        search=around(BALANCED["dist-binary"]),
        weight=BALANCED["dist-binary"],
        summary="correlation of sigmoid scores over time",
        formula="tau^2 * mean over levels of 1 - mean over classes of r over valid positions, r Pearson of "
        "sigmoid(logits / tau)",
        paper=f"{PAPER}, applied to each class separately",
        reads={"logits": "equal"},
        normalizer="classes, levels",
        source=SOURCE,
        differences="sigmoid in place of softmax; without the correlation over classes",
    ),
)
