"""Terms `ld` and `ld-classes`: distance bins and classes at positives."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.localization.ld import ld, ld_classes, score_weight
from tal_bench.distill.terms.predictions.labels import joined, positives
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs

EDGES = 2
SOURCE = "HikariTJU/LD 4287990, mmdet/models/dense_heads/ld_head.py, Apache-2.0"
PAPER = "Zheng et al., Localization Distillation, CVPR 2022"


def ld_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 KL of the distance bins with tau = 10, weighted by the student's best score.

    A mean over positives of all levels, edges and bins.
    """
    mask, positive = joined(student.mask), positives(student)
    weight = score_weight(joined(student.logits), positive, mask)
    bins = joined(student.features["bins"]), joined(teacher.features["bins"])
    return ld(*bins, weight, mask) / (EDGES * student.labels.count)


def ld_classes_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 KL of the softmax over classes, a mean over positives of all levels and classes."""
    logits = joined(student.logits), joined(teacher.logits)
    return ld_classes(*logits, positives(student), joined(student.mask), temperature=temperature)


terms.add(
    "ld",
    Term(
        "ld",
        ld_term,
        search=around(BALANCED["ld"]),
        weight=BALANCED["ld"],
        summary="distance bins at positives",
        formula="tau^2 * mean over positives, edges and bins of max p_student * KL(softmax(bins_teacher / "
        "tau) || "
        "softmax(bins_student / tau)), tau 10, p sigmoid",
        paper=PAPER,
        reads={"bins": "equal", "logits": "equal", "labels": "any"},
        normalizer="positives x edges x bins",
        source=SOURCE,
        differences="a mean over positives in place of the sum (published weight 0.25 of the sum over 4 "
        "edges); without "
        "the valuable region; bins of trident heads",
    ),
)
terms.add(
    "ld-classes",
    Term(
        "ld-classes",
        ld_classes_term,
        search=around(10.0),
        weight=10.0,
        summary="softmax KL at positives",
        formula="tau^2 * mean over positives and classes of KL(softmax(logits_teacher / tau) || "
        "softmax(logits_student / tau))",
        paper=PAPER,
        reads={"logits": "equal", "labels": "any"},
        normalizer="positives x classes",
        source=SOURCE,
        least_classes=2,
    ),
)
