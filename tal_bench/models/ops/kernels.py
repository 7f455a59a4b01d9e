"""Convolutions and pooling over channels-last sequences, with backward passes of their own.

Automatic differentiation of padded slices copies every activation several times and fills gradients with
zeros. Here each tap of the kernel is the matrix product of a shifted view, accumulated in place. The plain
references are in `reference`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tal_bench.models.ops import winograd
from tal_bench.models.ops.reference import plain_max_pool

MAX_NARROW_CHANNELS = 32
"""Largest number of output channels for which one product of all taps is fastest."""


def use_custom_kernels() -> bool:
    """Whether custom kernels may run; exporters and compilers can follow library calls only."""
    return not torch.compiler.is_compiling()


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of matrix products: that of autocast if enabled, else that of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def taps_last(shape: tuple[int, int, int]) -> Tensor:
    """Return an uninitialised weight [D, C, k] stored as [D, k, C], so that every tap is a matrix view."""
    out_channels, in_channels, kernel = shape
    return torch.empty(out_channels, kernel, in_channels).transpose(1, 2)


class _DenseConv3(torch.autograd.Function):
    """y[t] = b + sum_k W_k x[stride * t + k - 1], zeros outside the sequence."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        if x.dtype == torch.bfloat16:  # the library accumulates the taps in full precision
            return as_image(x, weight, bias, stride, groups=1)
        before, own, after = (weight[:, :, tap].T for tap in range(3))  # [C, D] each
        steps = x.reshape(
            x.shape[0], -1, stride * x.shape[2]
        )  # at stride 2, steps 2t and 2t + 1 are adjacent
        centre = own if stride == 1 else _last_two_taps(weight).T
        flat = steps.flatten(0, 1)
        product = flat @ centre if bias is None else torch.addmm(bias, flat, centre)
        out: Tensor = product.unflatten(0, steps.shape[:2])
        for y, video in zip(out, x, strict=True):
            y[1:].addmm_(video[stride - 1 : -1 : stride], before)
            if stride == 1:
                y[:-1].addmm_(video[1:], after)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        stride: int = ctx.stride
        grad = grad.contiguous()
        grad_x = _gradient_of_input(grad, weight, stride) if ctx.needs_input_grad[0] else None
        grad_bias = grad.sum(dim=(0, 1)) if ctx.needs_input_grad[2] else None
        return grad_x, _gradient_of_weight(grad, x, stride), grad_bias, None


def _last_two_taps(weight: Tensor) -> Tensor:
    """Return the taps of steps 2t and 2t + 1 as one matrix [D, 2 C]."""
    return weight.transpose(1, 2)[:, 1:].flatten(1)


def _gradient_of_input(grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """[B, T / stride, D] -> [B, T, C]."""
    before, own, after = (weight[:, :, tap] for tap in range(3))  # [D, C] each
    product = grad @ (own if stride == 1 else _last_two_taps(weight))
    grad_x = product.reshape(grad.shape[0], -1, weight.shape[1])
    for dx, dy in zip(grad_x, grad, strict=True):
        dx[stride - 1 : -1 : stride].addmm_(dy[1:], before)
        if stride == 1:
            dx[1:].addmm_(dy[:-1], after)
    return grad_x


def _gradient_of_weight(grad: Tensor, x: Tensor, stride: int) -> Tensor:
    """[B, T / stride, D] and [B, T, C] -> [D, C, 3], laid out in memory as the weight."""
    D, C = grad.shape[2], x.shape[2]
    out = x.new_empty(D, 3, C)
    rows = out.flatten(1)  # [D, 3 C]: a range of columns per tap
    own = rows[:, C : (1 + stride) * C]
    torch.mm(grad.flatten(0, 1).T, x.reshape(-1, stride * C), out=own)
    for i, (dy, video) in enumerate(zip(grad, x, strict=True)):
        earlier = min(i, 1)  # 0 overwrites the uninitialised memory
        before = rows[:, :C]
        torch.addmm(before, dy[1:].T, video[stride - 1 : -1 : stride], beta=earlier, out=before)
        if stride == 1:
            after = rows[:, 2 * C :]
            torch.addmm(after, dy[:-1].T, video[1:], beta=earlier, out=after)
    return out.transpose(1, 2)


class _NarrowConv3(torch.autograd.Function):
    """`_DenseConv3` at stride 1 for few output channels: one product for all taps, whose results are shifted.

    The wide input is read only once, and the shifted results are narrow.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        parts = (x.flatten(0, 1) @ _taps_first(weight).T).view(*x.shape[:2], 3, -1)
        out = parts[:, :, 1] if bias is None else parts[:, :, 1] + bias
        out[:, 1:] += parts[:, :-1, 0]
        out[:, :-1] += parts[:, 1:, 2]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        shifted = grad.new_zeros(*grad.shape[:2], 3, grad.shape[2])
        shifted[:, :-1, 0] = grad[:, 1:]
        shifted[:, :, 1] = grad
        shifted[:, 1:, 2] = grad[:, :-1]
        rows = shifted.flatten(2).flatten(0, 1)
        grad_x = (rows @ _taps_first(weight)).view_as(x) if ctx.needs_input_grad[0] else None
        grad_weight = (rows.T @ x.flatten(0, 1)).unflatten(0, (3, -1)).permute(1, 2, 0)
        grad_bias = grad.sum(dim=(0, 1)) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def _taps_first(weight: Tensor) -> Tensor:
    """[D, C, 3] -> [3 D, C]."""
    return weight.permute(2, 0, 1).flatten(0, 1)


def dense_conv3(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """[B, T, C] and weight [D, C, 3] -> [B, T / stride, D]; T even when the stride is 2.

    Uses custom kernels on the CPU, where they are fastest, and the library's convolution elsewhere.
    Reference: `reference.plain_conv`.
    """
    if x.device.type != "cpu" or not use_custom_kernels():
        return as_image(x, weight, bias, stride, groups=1)
    dtype = compute_dtype(x)
    bias = None if bias is None else bias.to(dtype)
    x, weight = x.to(dtype).contiguous(), weight.to(dtype)
    if stride == 1 and weight.shape[0] <= MAX_NARROW_CHANNELS:
        narrow: Tensor = _NarrowConv3.apply(x, weight, bias)
        return narrow
    if stride == 1 and winograd.is_faster(x, weight):
        fast: Tensor = winograd.WinogradConv3.apply(x, weight, bias)
        return fast
    out: Tensor = _DenseConv3.apply(x, weight, bias, stride)
    return out


def as_image(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    """Convolve as an image of height 1 in channels-last layout, without copying data."""
    image = x.transpose(1, 2).unsqueeze(2)
    padding = (0, weight.shape[2] // 2)
    out = F.conv2d(image, weight.unsqueeze(2), bias, (1, stride), padding, groups=groups)
    return out.squeeze(2).transpose(1, 2)


class _MaxPool(torch.autograd.Function):
    """y[t] = max(x[2t - 1], x[2t], x[2t + 1]); the gradient flows to the first of equal values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        even, odd = x[:, 0::2], x[:, 1::2]
        out = torch.maximum(even, odd)
        torch.maximum(out[:, 1:], odd[:, :-1], out=out[:, 1:])
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, out = ctx.saved_tensors
        even, odd, zero = x[:, 0::2], x[:, 1::2], grad.new_zeros(())
        grad_x = torch.empty_like(x)
        grad_even, grad_odd = grad_x[:, 0::2], grad_x[:, 1::2]
        from_next = torch.where(odd[:, :-1] == out[:, 1:], grad[:, 1:], zero)
        left = grad.clone()
        left[:, 1:].sub_(from_next)
        grad_even.copy_(torch.where(even == out, left, zero))
        torch.sub(left, grad_even, out=grad_odd)
        grad_odd[:, :-1].add_(from_next)
        return grad_x


def max_pool(x: Tensor) -> Tensor:
    """Max pooling of kernel 3, stride 2, padding 1: [B, T, C] with even T -> [B, T / 2, C].

    Reference: `reference.plain_max_pool`.
    """
    if use_custom_kernels():
        out: Tensor = _MaxPool.apply(x)
        return out
    return plain_max_pool(x)
