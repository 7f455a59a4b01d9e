"""Term `logits`: softmax over the classes, as in the code of C2MS-Net."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.config import Range
from tal_bench.distill.terms.reductions import packed
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.types import Outputs


def logits_softmax(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return KL(softmax(teacher / tau) || softmax(student / tau)) over classes, as in C2MS-Net's code.

    Summed over positions and classes and divided by the batch size only, so the value grows with the length
    of the videos; averaged over levels.
    """
    ours = (packed(student.logits) / temperature).log_softmax(dim=2)
    theirs = (packed(teacher.logits).detach() / temperature).softmax(dim=2)
    values = F.kl_div(ours, theirs, reduction="none").sum(dim=2) * torch.cat(list(student.mask), dim=1)
    return values.sum() / (len(values) * len(student.mask))


terms.add(
    "logits",
    Term(
        "logits",
        logits_softmax,
        search=Range(low=0.003, high=0.3),
        reads={"logits": "equal"},
        summary="KL of the softmax over classes",
        formula="mean over levels of (1 / B) * sum over valid positions of "
        "KL(softmax(logits_teacher / tau) || softmax(logits_student / tau))",
        paper="Hinton et al. (2015); C2MS-Net (2026)",
        normalizer="B, and levels",
        weight=0.1,
    ),
)
