"""Term `logits-binary`: every class as a Bernoulli variable of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tal_bench.config import Range
from tal_bench.distill.terms.reductions import mean_of_level_means, packed
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.types import Outputs


def logits_binary(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the Bernoulli KL(teacher || student) per class, averaged over positions, classes and levels.

    The heads are trained with a sigmoid, so classes are independent yes-or-no questions.
    """
    theirs, ours = packed(teacher.logits).detach() / temperature, packed(student.logits) / temperature
    return mean_of_level_means(bernoulli_kl(theirs, ours).mean(dim=2), student.mask)


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) of Bernoulli distributions given by their logits, element-wise.

    Gradients flow to q only.
    """
    value: Tensor = _BernoulliKL.apply(p, q)
    return value


class _BernoulliKL(torch.autograd.Function):
    """KL(p || q), whose derivative by the logit of q is sigmoid(q) - sigmoid(p).

    Automatic differentiation of its four logarithms visits the tensors a dozen times more.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, q: Tensor) -> Tensor:
        share = p.sigmoid()
        ctx.save_for_backward(share, q)
        yes = F.logsigmoid(p).sub_(F.logsigmoid(q))
        no = F.logsigmoid(-p).sub_(F.logsigmoid(-q))
        return yes.mul_(share).add_(no.mul_(1 - share))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        share, q = ctx.saved_tensors
        return None, q.sigmoid().sub_(share).mul_(grad)


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
