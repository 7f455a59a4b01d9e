"""Attention of blocks of queries to two neighbouring blocks of keys, as one batched matrix product.

Query block i attends to key blocks i and i + 1, which are adjacent in memory. They are read through
overlapping views without a copy, and their gradients are accumulated in place.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def attend_to_pairs(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention of every block of queries to two neighbouring blocks of keys.

    Args:
        q: Queries [B, heads, n, block, d]; the last block of every head has no successor and is not used.
        k: Keys [B, heads, n, block, d].
        v: Values [B, heads, n, block, d].
        bias: Finite values [B, heads, n, block, 2 block] that are added to q k / sqrt(d).

    Returns:
        Attended values [B, heads, n, block, d]; the last block is undefined.
    """
    out: Tensor = _AttendToPairs.apply(q, k, v, bias)
    return out


def _pairs(x: Tensor) -> Tensor:
    """View [..., n, block, d] as [N - 1, 2 block, d]: each of all N blocks together with the next one.

    This includes the pair of each head's last block with the first block of the next head, which is unused.
    """
    block, d = x.shape[-2:]
    N = x.numel() // (block * d)
    return x.as_strided((N - 1, 2 * block, d), (block * d, d, 1))


class _AttendToPairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (x.contiguous() for x in (q, k, v))
            queries = q.flatten(0, 2)
            scale = 1 / math.sqrt(q.shape[-1])
            keys = _pairs(k)
            if keys.dtype == torch.bfloat16:  # bmm would make the same copy, more slowly
                keys = keys.contiguous()
            scores = torch.baddbmm(
                bias.to(q.dtype).flatten(0, 2)[:-1], queries[:-1], keys.transpose(1, 2), alpha=scale
            )
            weights = scores.softmax(dim=2)
            out = torch.empty_like(queries)
            torch.bmm(weights, _pairs(v), out=out[:-1])
            out[-1].zero_()
        ctx.save_for_backward(q, k, v, weights)
        ctx.bias_shape, ctx.bias_dtype = bias.shape, bias.dtype
        return out.view_as(q)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        q, k, v, weights = ctx.saved_tensors
        block, scale = q.shape[-2], 1 / math.sqrt(q.shape[-1])
        queries, upstream = q.flatten(0, 2)[:-1], grad.contiguous().flatten(0, 2)[:-1]
        grad_weights = torch.bmm(upstream, _pairs(v).transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_weights, weights, 2, weights.dtype)
        grad_q = torch.empty_like(q)
        torch.bmm(grad_scores, _pairs(k), out=grad_q.flatten(0, 2)[:-1])
        grad_q[-1, -1, -1].zero_()
        grad_q.mul_(scale)
        grad_k = _scatter(grad_scores, queries, k, block).mul_(scale)
        grad_v = _scatter(weights, upstream, v, block)
        grad_bias = None
        if ctx.needs_input_grad[3]:
            padded = F.pad(grad_scores, (0, 0, 0, 0, 0, 1)).to(ctx.bias_dtype)
            grad_bias = padded.reshape(ctx.bias_shape)
        return grad_q, grad_k, grad_v, grad_bias


def _scatter(weights: Tensor, values: Tensor, like: Tensor, block: int) -> Tensor:
    """Sum weight x value over queries, per key, over the two pairs that contain a block of keys."""
    out = torch.empty_like(like)
    blocks = out.flatten(0, 2)
    blocks[-1].zero_()
    torch.bmm(weights[:, :, :block].transpose(1, 2), values, out=blocks[:-1])
    blocks[1:].baddbmm_(weights[:, :, block:].transpose(1, 2), values)
    return out
