"""Depthwise convolution over channels-last sequences.

For the small networks a library call takes longer than its arithmetic. On the CPU one compiled loop therefore
computes up to three taps, and another one all gradients. Reference: `reference.plain_conv` with a weight
[C, 1, k].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tal_bench.models.ops.kernels import as_image, compute_dtype, use_custom_kernels
from tal_bench.models.ops.op_shortcuts import shortcuts_allowed
from tal_bench.system.compiled import compiled

MAX_ELEMENTS = 1 << 19
"""Largest input of the compiled loops, which run in one thread; beyond it the library uses several."""
DTYPES = {torch.float32: "f4", torch.float64: "f8"}
REORDERED = frozenset({"reassoc", "contract", "nsz"})
"""Liberties of the compiler: sums may be reordered; NaN and infinities keep their meaning."""


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """[B, T, C] and weight [C, 1, k] -> [B, ceil(T / stride), C].

    At the published size the library's 2-D kernels are 10 times as fast as its 1-D ones.
    """
    if weight.shape[2] <= 3 and x.numel() <= MAX_ELEMENTS and _can_be_compiled(x, weight):
        out: Tensor = _DepthwiseConv3.apply(x.contiguous(), weight, bias, stride)
        return out
    groups = weight.shape[0]
    if stride == 2 and x.requires_grad and x.device.type == "cpu" and compute_dtype(x) == torch.bfloat16:
        # the backward pass of the strided kernel is 5 times as slow as that of the dense one
        return as_image(x, weight, bias, 1, groups)[:, ::2]
    return as_image(x, weight, bias, stride, groups)


def _can_be_compiled(x: Tensor, weight: Tensor) -> bool:
    """Whether compiled loops may run; operation counters, like exporters, follow library calls only."""
    plain = x.device.type == "cpu" and x.dtype in DTYPES and x.dtype == weight.dtype == compute_dtype(x)
    return plain and use_custom_kernels() and shortcuts_allowed()


class _DepthwiseConv3(torch.autograd.Function):
    """y[t] = b + sum_k w_k * x[stride * t + k - 1] with three taps, or the middle one of three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        taps = weight.detach().squeeze(1).T  # [k, C]
        taps = taps.contiguous() if len(taps) > 1 else F.pad(taps, (0, 0, 1, 1))
        ctx.save_for_backward(x, taps)
        ctx.stride, ctx.kernel = stride, weight.shape[2]
        out = x.new_empty(x.shape[0], -(-x.shape[1] // stride), x.shape[2])
        bias = x.new_zeros(x.shape[2]) if bias is None else bias
        _call(_forward, "array3, array2, array1, i8, array3", x, taps, bias, stride, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        grad_x, grad_taps, grad_bias = torch.empty_like(x), torch.empty_like(taps), x.new_empty(x.shape[2])
        types = "array3, array2, array3, i8, array3, array2, array1"
        _call(_backward, types, x, taps, grad.contiguous(), ctx.stride, grad_x, grad_taps, grad_bias)
        grad_weight = (grad_taps if ctx.kernel > 1 else grad_taps[1:2]).T.unsqueeze(1)
        return grad_x, grad_weight, grad_bias if ctx.needs_input_grad[2] else None, None


def _call(loop: Callable[..., None], types: str, *arguments: Any) -> None:
    """Call a compiled loop on contiguous tensors of one dtype, and numbers; results are written into them."""
    arrays = [x.detach().numpy() if isinstance(x, Tensor) else x for x in arguments]
    _compiled(loop, types, DTYPES[arguments[0].dtype])(*arrays)


@cache
def _compiled(loop: Callable[..., None], types: str, dtype: str) -> Callable[..., None]:
    for dims in (1, 2, 3):
        types = types.replace(f"array{dims}", f"{dtype}[{':, ' * (dims - 1)}::1]")
    return compiled(loop, f"void({types})", REORDERED)


def _forward(x, taps, bias, stride, out):  # type: ignore[no-untyped-def]
    B, T, C = x.shape
    outside = np.zeros(C, x.dtype)
    w0, w1, w2 = taps[0], taps[1], taps[2]
    for i in range(B):
        for t in range(out.shape[1]):
            s, y = t * stride, out[i, t]
            before = x[i, s - 1] if s > 0 else outside
            own = x[i, s]
            after = x[i, s + 1] if s + 1 < T else outside
            for c in range(C):
                y[c] = bias[c] + w0[c] * before[c] + w1[c] * own[c] + w2[c] * after[c]


def _backward(x, taps, grad, stride, grad_x, grad_taps, grad_bias):  # type: ignore[no-untyped-def]
    B, T, C = x.shape
    none = np.zeros(C, x.dtype)
    w0, w1, w2 = taps[0], taps[1], taps[2]
    sums = np.zeros((4, C), x.dtype)  # not the arguments, so that the compiler knows that no arrays overlap
    d0, d1, d2, total = sums[0], sums[1], sums[2], sums[3]
    for i in range(B):
        for s in range(T):
            # step s is read through tap k by the output at (s + 1 - k) / stride, if that is an integer
            next_, own, last = (s + 1) // stride, s // stride, (s - 1) // stride
            g0 = grad[i, next_] if (s + 1) % stride == 0 and next_ < grad.shape[1] else none
            g1 = grad[i, own] if s % stride == 0 else none
            g2 = grad[i, last] if s > 0 and (s - 1) % stride == 0 else none
            v, dx = x[i, s], grad_x[i, s]
            for c in range(C):
                d0[c] += g0[c] * v[c]
                d1[c] += g1[c] * v[c]
                d2[c] += g2[c] * v[c]
                total[c] += g1[c]
                dx[c] = w0[c] * g0[c] + w1[c] * g1[c] + w2[c] * g2[c]
    grad_taps[:], grad_bias[:] = sums[:3], total
