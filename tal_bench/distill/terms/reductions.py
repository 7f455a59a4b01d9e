"""Masked means and mean squares that the terms share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tal_bench.distill.losses.masking import full


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of [B, T, C] over channels and the positions where the mask [B, T] is true."""
    weight = mask.to(values.dtype)
    return (values.mean(dim=2) * weight).sum() / weight.sum().clamp(min=1.0)


def mean_square(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of x and y [B, C, T] where the mask [B, T] is true, in full precision.

    Gradients flow to x only.
    """
    value: Tensor = _MeanSquare.apply(x.transpose(1, 2), y.transpose(1, 2), mask)
    return value


class _MeanSquare(torch.autograd.Function):
    """Mean of (x - y)^2 over channels and valid positions of [B, T, C], with gradients for x only.

    Inputs and stems are the largest tensors of a training step, so their difference is written once and the
    gradient is computed as a multiple of it.
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


def packed(levels: Sequence[Tensor]) -> Tensor:
    """Return [B, T_l, ...] per level as one tensor [B, sum(T_l), ...], in float32 or wider.

    A small level takes as long as a large one where a call takes longer than its arithmetic, so element-wise
    losses are computed for all levels at once.
    """
    return torch.cat([full(x) for x in levels], dim=1)


def mean_of_level_means(values: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Return the mean over levels of the mean over valid positions.

    Args:
        values: [B, sum(T_l)], values of all levels, as `packed` joins them.
        masks: [B, T_l] bool per level; a level without a valid position counts as 0.
    """
    weights = torch.cat([m.to(values.dtype) / m.sum().clamp(min=1) for m in masks], dim=1)
    return (values * weights).sum() / len(masks)


def level_mean(values: Iterable[Tensor]) -> Tensor:
    """Return the mean of the values of the levels."""
    return torch.stack(list(values)).mean()
