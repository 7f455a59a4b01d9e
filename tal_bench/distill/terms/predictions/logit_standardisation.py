"""Term `logit-standardisation`: z-scores of the logits of a position."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.logits.standardisation import standardised_kl
from tal_bench.distill.terms.reductions import level_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs


def logit_standardisation_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return tau^2 KL of the softmax of z-scored logits: a mean over valid positions, then over levels.

    Standardising takes the magnitude away that a sigmoid detector reports as its score, so there is no form
    per class.
    """
    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    return level_mean(standardised_kl(s, t, m, temperature=temperature) for s, t, m in levels)


terms.add(
    "logit-standardisation",
    Term(
        "logit-standardisation",
        logit_standardisation_term,
        search=around(9.0),
        weight=9.0,
        summary="softmax KL of standardised logits",
        formula="tau^2 * mean over levels of the mean over valid positions of KL(softmax(z_teacher / tau) || "
        "softmax(z_student / tau)), z the logits standardised over classes",
        paper="Sun et al., Logit Standardization, CVPR 2024",
        reads={"logits": "equal"},
        normalizer="valid positions, levels",
        source="formula of sunshangquan/logit-standardization-KD f6e5aa5, mdistiller/distillers/KD.py, no "
        "licence",
        differences="background positions count too",
        least_classes=3,
    ),
)
