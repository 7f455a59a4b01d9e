"""Convolution of kernel 3 with two products per output step instead of three.

Winograd's minimal filtering F(2, 3): two neighbouring outputs share four products of sums and differences of
their four inputs (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308).
In full precision the rounding error is 1.6 times that of the direct sum. Reference: `reference.plain_conv`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tal_bench.models.ops.op_shortcuts import shortcuts_allowed

MIN_STEPS = 512
"""Shortest sequence for which the method is faster."""
MIN_CHANNELS = 256
"""Smallest number of input and of output channels for which the method is faster."""


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether the method is allowed and faster than direct sums for x [B, T, C] and weight [D, C, 3]."""
    long, wide = x.shape[1] >= MIN_STEPS, min(weight.shape[:2]) >= MIN_CHANNELS
    return shortcuts_allowed() and x.dtype == torch.float32 and long and wide and x.shape[1] % 2 == 0


class WinogradConv3(torch.autograd.Function):
    """y[t] = b + sum_k W_k x[t + k - 1], zeros outside the sequence, for an even T."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[B, T, C] and weight [D, C, 3] -> [B, T, D]."""
        ctx.save_for_backward(x, weight)
        return _filter(x, _factors(*(weight[:, :, tap].T for tap in range(3))), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Return the gradients; that of the input is the same convolution with reversed taps."""
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        reverse = _factors(*(weight[:, :, tap] for tap in (2, 1, 0)))
        grad_x = _filter(grad, reverse, None) if ctx.needs_input_grad[0] else None
        grad_bias = grad.sum(dim=(0, 1)) if ctx.needs_input_grad[2] else None
        return grad_x, _gradient_of_weight(grad, x), grad_bias


class Factors(NamedTuple):
    """Matrices [C, D] that the four sums are multiplied by."""

    centre: Tensor
    slope: Tensor
    earlier: Tensor
    later: Tensor


def _factors(before: Tensor, own: Tensor, after: Tensor) -> Factors:
    """Return the factors of three taps [C, D]."""
    ends, middle = (before + after) / 2, own / 2
    return Factors(ends + middle, ends - middle, before, after)


def _filter(x: Tensor, factors: Factors, bias: Tensor | None) -> Tensor:
    """[B, T, C] -> [B, T, D]."""
    centre, slope, earlier, later = _input_sums(x)
    common = centre @ factors.centre if bias is None else torch.addmm(bias, centre, factors.centre)
    apart = slope @ factors.slope
    out = x.new_empty(common.shape[0], 2, common.shape[1])
    torch.add(common, apart, out=out[:, 0]).addmm_(earlier, factors.earlier)
    torch.sub(common, apart, out=out[:, 1]).addmm_(later, factors.later)
    return out.view(*x.shape[:2], -1)


class PreparedWinogradConv:
    """The convolution with its factors computed once, for inference.

    Args:
        weight: Weight [D, C, 3] in full precision.
        bias: Bias [D].
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._factors = _factors(*(weight.detach()[:, :, tap].T for tap in range(3)))
        self._bias = bias
        self.nbytes = self._factors.centre.nbytes + self._factors.slope.nbytes  # the others are views

    def __call__(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, D]; to be used where `is_faster` holds."""
        return _filter(x.contiguous(), self._factors, self._bias)


def _input_sums(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four sums of x[2t - 1] ... x[2t + 2] for every pair of steps 2t, 2t + 1, [B T / 2, C] each."""
    even, odd = x[:, 0::2], x[:, 1::2]
    centre, slope = even + odd, odd - even
    earlier, later = torch.empty_like(centre), torch.empty_like(centre)
    torch.neg(odd[:, 0], out=earlier[:, 0])
    torch.sub(odd[:, :-1], odd[:, 1:], out=earlier[:, 1:])
    torch.sub(even[:, 1:], even[:, :-1], out=later[:, :-1])
    torch.neg(even[:, -1], out=later[:, -1])
    return centre.flatten(0, 1), slope.flatten(0, 1), earlier.flatten(0, 1), later.flatten(0, 1)


def _gradient_of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """[B, T, D] and [B, T, C] -> [D, C, 3], laid out in memory as the weight; the transpose of `_filter`."""
    centre, slope, earlier, later = _input_sums(x)
    even, odd = (half.flatten(0, 1) for half in (grad[:, 0::2], grad[:, 1::2]))
    common, apart = (even + odd).T @ centre, (even - odd).T @ slope
    ends = (common + apart) / 2
    out = x.new_empty(grad.shape[2], 3, x.shape[2])
    torch.addmm(ends, even.T, earlier, out=out[:, 0])
    torch.sub(common, apart, out=out[:, 1]).div_(2)
    torch.addmm(ends, odd.T, later, out=out[:, 2])
    return out.transpose(1, 2)
