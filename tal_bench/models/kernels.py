"""Convolutions over channels-last sequences: matrix products on the data where they lie.

Automatic differentiation of padded slices copies every activation several times and fills gradients with
zeros; for channels-last sequences all of that is avoidable. Each tap of the kernel is a product of a shifted
view, accumulated in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _DenseConv3(torch.autograd.Function):
    """y[t] = sum_k x[stride * t + k - 1] W_k, zeros outside the sequence."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        before, own, after = weight.permute(2, 1, 0).contiguous()  # [C, D] each
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        if stride == 1:
            out: Tensor = x @ own
            for y, video in zip(out, x, strict=True):
                y[1:].addmm_(video[:-1], before)
                y[:-1].addmm_(video[1:], after)
            return out
        pairs = x.reshape(x.shape[0], -1, 2 * x.shape[2])  # steps 2t and 2t + 1 lie side by side
        out = pairs @ torch.cat([own, after])
        for y, video in zip(out, x, strict=True):
            y[1:].addmm_(video[1:-1:2], before)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        before, own, after = weight.permute(2, 0, 1).contiguous()  # [D, C] each
        grad_x = grad_w = None
        B, T, C = x.shape
        D = grad.shape[2]
        if ctx.stride == 1:
            if ctx.needs_input_grad[0]:
                grad_x = grad @ own
                for dx, dy in zip(grad_x, grad, strict=True):
                    dx[:-1].addmm_(dy[1:], before)
                    dx[1:].addmm_(dy[:-1], after)
            grad_w = torch.empty(3, D, C, dtype=x.dtype, device=x.device)
            torch.mm(grad.reshape(-1, D).T, x.reshape(-1, C), out=grad_w[1])
            grad_w[0::2].zero_()
            for dy, video in zip(grad, x, strict=True):
                grad_w[0].addmm_(dy[1:].T, video[:-1])
                grad_w[2].addmm_(dy[:-1].T, video[1:])
        else:
            if ctx.needs_input_grad[0]:
                grad_x = (grad @ torch.cat([own, after], dim=1)).reshape(B, T, C)
                for dx, dy in zip(grad_x, grad, strict=True):
                    dx[1:-1:2].addmm_(dy[1:], before)
            own_after = grad.reshape(-1, D).T @ x.reshape(-1, 2 * C)
            first = torch.zeros(D, C, dtype=x.dtype, device=x.device)
            for dy, video in zip(grad, x, strict=True):
                first.addmm_(dy[1:].T, video[1:-1:2])
            grad_w = torch.stack([first, own_after[:, :C], own_after[:, C:]])
        return grad_x, grad_w.permute(1, 2, 0), None


def dense_conv3(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """[B, T, C] and weight [D, C, 3] -> [B, T / stride, D]; T even when the stride is 2."""
    out: Tensor = _DenseConv3.apply(*_autocast(x, weight), stride)
    return out


def depthwise_conv(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """[B, T, C] and weight [C, 1, k] -> [B, ceil(T / stride), C].

    Seen as an image of height 1 that lies channels-last, the data stay where they are, and the library's
    kernels for that layout are 10 times as fast as its 1-D ones at the published size.
    """
    image = x.transpose(1, 2).unsqueeze(2)
    padding = (0, weight.shape[2] // 2)
    out = F.conv2d(image, weight.unsqueeze(2), None, (1, stride), padding, groups=weight.shape[0])
    return out.squeeze(2).transpose(1, 2)


def _autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Contiguous input and weight in the dtype that autocast asks for."""
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    return x.contiguous(), weight
