"""Terms `dkd` and `dkd-binary`: class of the label and other classes apart, at positives."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.logits.dkd import dkd_others, dkd_target
from tal_bench.distill.losses.masking import mean_over, one_hot, valid_rows
from tal_bench.distill.terms.logits_binary import bernoulli_kl
from tal_bench.distill.terms.predictions.labels import classes, joined, positives
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs

TARGET, OTHERS = 1.0, 8.0
"""Weights alpha and beta of the parts."""
SOURCE = "megvii-research/mdistiller a08d46f, mdistiller/distillers/DKD.py, MIT"
PAPER = "Zhao et al., Decoupled Distillation, CVPR 2022"


def dkd_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 (KL of target against rest + 8 KL among the rest), a mean over positives."""
    given = joined(student.logits), joined(teacher.logits), classes(student), positives(student)
    target, others = (loss(*given, temperature=temperature) for loss in (dkd_target, dkd_others))
    return TARGET * target + OTHERS * others


def dkd_binary_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 (Bernoulli KL of the target + 8 that of the other classes), a mean over positives.

    That of the other classes is summed over them, as the published KL is.
    """
    chosen = positives(student)
    s, t = (valid_rows(joined(x), chosen) / temperature for x in (student.logits, teacher.logits))
    weight = OTHERS + (TARGET - OTHERS) * one_hot(classes(student), s.shape[2]).to(s.dtype)
    return temperature**2 * mean_over((weight * bernoulli_kl(t.detach(), s)).sum(dim=2), chosen)


terms.add(
    "dkd",
    Term(
        "dkd",
        dkd_term,
        search=around(1.0),
        weight=1.0,
        summary="softmax KL of target and of other classes, at positives",
        formula="tau^2 * mean over positives of KL(target against rest) + 8 KL(among the rest), of "
        "softmax(logits / tau)",
        paper=PAPER,
        reads={"logits": "equal", "labels": "any"},
        normalizer="positives",
        source=SOURCE,
        differences="at positives only, where there is a class; of several classes the first",
        least_classes=2,
    ),
)
terms.add(
    "dkd-binary",
    Term(
        "dkd-binary",
        dkd_binary_term,
        search=around(BALANCED["dkd-binary"]),
        weight=BALANCED["dkd-binary"],
        summary="Bernoulli KL of target and of other classes, at positives",
        formula="tau^2 * mean over positives of KL of the target + 8 * sum over other classes of KL, of "
        "Bernoulli "
        "distributions sigmoid(logits / tau)",
        paper=f"{PAPER}, applied to each class separately",
        reads={"logits": "equal", "labels": "any"},
        normalizer="positives",
        source=SOURCE,
        differences="sigmoid in place of softmax; at positives only",
    ),
)
