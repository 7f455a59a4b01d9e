"""Distillation terms: pure functions of what student and teacher say of the same batch.

Every term is a scalar. Positions where the mask is false do not count. Beside each term stands the range in
which studies search its weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tal_bench.config import Range
from tal_bench.registry import Registry
from tal_bench.types import Outputs

TermFunction = Callable[[Outputs, Outputs, float], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """A registered term.

    Attributes:
        name: as variants refer to it.
        fn: (student, teacher, temperature) -> scalar.
        search: range of its weight in studies.
        summary: one line for `tal-bench list terms`.
    """

    name: str
    fn: TermFunction
    search: Range
    summary: str


terms: Registry[Term] = Registry("term")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of [B, T, C] over channels and the positions where [B, T] is true."""
    weight = mask.to(values.dtype)
    return (values.mean(dim=2) * weight).sum() / weight.sum().clamp(min=1.0)


class _MeanSquare(torch.autograd.Function):
    """Mean over channels and real positions of (x - y)^2, [B, T, C] both; gradients go to x alone.

    Inputs and stems are the largest tensors of a step, so their difference is written once, and the gradient
    is a multiple of it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        weight = mask.to(torch.promote_types(x.dtype, torch.float32))
        weight = weight / (weight.sum().clamp(min=1.0) * x.shape[2])
        difference = x.to(weight.dtype) - y
        ctx.save_for_backward(difference, weight)
        ctx.dtype = x.dtype
        squares = torch.linalg.vector_norm(difference, dim=2).square()
        mean: Tensor = (squares * weight).sum()
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        difference, weight = ctx.saved_tensors
        return (difference * (2 * grad * weight).unsqueeze(2)).to(ctx.dtype), None, None


def mean_square(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of [B, C, T] and [B, C, T] where [B, T] is true, in full precision."""
    value: Tensor = _MeanSquare.apply(x.transpose(1, 2), y.transpose(1, 2), mask)
    return value


def hallucination(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Mean squared error of the student's input against the teacher's, [B, C, T] both.

    The primary channels agree, so this is the error of the hallucinated ones times their share of C
    (C2MS-Net: half of the flow error).
    """
    return mean_square(student.inputs, teacher.inputs, student.mask[0])


def stem(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Mean squared error of the features before the first stride, [B, D, T] both."""
    return mean_square(student.stem, teacher.stem, student.mask[0])


def offsets(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Mean squared error of the offsets, mean over levels.

    Offsets per class are compared as such where both have them, and as their mean weighted by the classes'
    probabilities where one has not.
    """
    both = student.offsets[0].ndim == teacher.offsets[0].ndim
    ours, theirs = (x.offsets if both else _of_any_class(x) for x in (student, teacher))
    levels = zip(ours, theirs, student.mask, strict=True)
    return torch.stack([masked_mean((s - t).square().flatten(2), m) for s, t, m in levels]).mean()


def _of_any_class(output: Outputs) -> list[Tensor]:
    """Per level [B, T_l, 2]."""
    if output.offsets[0].ndim == 3:
        return output.offsets
    shares = [x.sigmoid() / x.sigmoid().sum(dim=2, keepdim=True) for x in output.logits]
    return [(x * share[:, :, :, None]).sum(dim=2) for x, share in zip(output.offsets, shares, strict=True)]


def logits_binary(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """Bernoulli KL(teacher || student) per class at temperature tau, over positions, classes, levels.

    The heads are trained with a sigmoid, so classes are independent yes-or-no questions.
    """
    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    return torch.stack(
        [masked_mean(bernoulli_kl(t / temperature, s / temperature), m) for s, t, m in levels]
    ).mean()


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of Bernoulli distributions given by logits, element-wise."""
    yes = F.logsigmoid(p) - F.logsigmoid(q)
    no = F.logsigmoid(-p) - F.logsigmoid(-q)
    share = p.sigmoid()
    return share * yes + (1 - share) * no


def logits_softmax(student: Outputs, teacher: Outputs, temperature: float) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student / tau)) over classes, as C2MS-Net's code has it.

    Summed over positions and classes, divided by the batch size alone (so it grows with the length of the
    videos), mean over levels.
    """
    levels = zip(student.logits, teacher.logits, student.mask, strict=True)
    per_level = [
        (
            F.kl_div(
                (s / temperature).log_softmax(dim=2), (t / temperature).softmax(dim=2), reduction="none"
            ).sum(dim=2)
            * m
        ).sum()
        / s.shape[0]
        for s, t, m in levels
    ]
    return torch.stack(per_level).mean()


for _term in (
    Term("hallucination", hallucination, Range(low=0.3, high=10.0), "student's input against the teacher's"),
    Term("stem", stem, Range(low=0.1, high=5.0), "features before the first stride"),
    Term("offsets", offsets, Range(low=0.02, high=0.5), "distances to start and end"),
    Term("logits-binary", logits_binary, Range(low=1.0, high=40.0), "Bernoulli KL per class"),
    Term("logits", logits_softmax, Range(low=0.003, high=0.3), "KL of the softmax over classes"),
):
    terms.add(_term.name, _term)
