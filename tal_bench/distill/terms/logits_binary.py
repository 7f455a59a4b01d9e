"""Term `logits-binary`: every class as a Bernoulli variable of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.config import Range
from tal_bench.distill.losses.masking import full
from tal_bench.distill.terms.reductions import masked_mean
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.types import Outputs


def logits_binary(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the Bernoulli KL(teacher || student) per class, averaged over positions, classes and levels.

    The heads are trained with a sigmoid, so classes are independent yes-or-no questions.
    """
    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    return torch.stack(
        [
            masked_mean(bernoulli_kl(full(t.detach()) / temperature, full(s) / temperature), m)
            for s, t, m in levels
        ]
    ).mean()


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) of Bernoulli distributions given by their logits, element-wise."""
    yes = F.logsigmoid(p) - F.logsigmoid(q)
    no = F.logsigmoid(-p) - F.logsigmoid(-q)
    share = p.sigmoid()
    return share * yes + (1 - share) * no


terms.add(
    "logits-binary",
    Term(
        "logits-binary",
        logits_binary,
        search=Range(low=1.0, high=40.0),
        reads={"logits": "equal"},
        summary="Bernoulli KL per class",
        formula="mean over levels of the mean over valid positions and classes of "
        "KL(sigmoid(logits_teacher / tau) || sigmoid(logits_student / tau))",
        paper="Hinton et al. (2015), applied to each class separately",
        normalizer="valid positions x classes, and levels",
        weight=8.0,
    ),
)
