"""Blocks of queries against their own and the next block of keys: one batched product for all of them.

Block i of the queries meets blocks i and i + 1 of the keys, which lie side by side in memory: seen as windows
that overlap, they need no copy, and their gradients are accumulated where they lie.
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
        q: [B, heads, n, block, d]; the last block of every head has no successor and is not used.
        k: [B, heads, n, block, d].
        v: [B, heads, n, block, d].
        bias: [B, heads, n, block, 2 block], added to q k / sqrt(d); finite.

    Returns:
        [B, heads, n, block, d], the last block of no meaning.
    """
    out: Tensor = _AttendToPairs.apply(q, k, v, bias)
    return out


def plain_attend_to_pairs(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """`attend_to_pairs` in library calls alone, copies and all."""
    keys, values = (torch.cat([x, F.pad(x[:, :, 1:], (0, 0, 0, 0, 0, 1))], dim=3) for x in (k, v))
    scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias.to(q.dtype)
    return scores.softmax(dim=-1) @ values


def _pairs(x: Tensor) -> Tensor:
    """[..., n, block, d] -> [N - 1, 2 block, d] over all N blocks: each with the next, overlapping views.

    The pairs of a last block with the first one of the next head come along; nothing reads them.
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
            if keys.dtype == torch.bfloat16:  # the library would copy them itself, and slower
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
            whole = F.pad(grad_scores, (0, 0, 0, 0, 0, 1)).to(ctx.bias_dtype)
            grad_bias = whole.reshape(ctx.bias_shape)
        return grad_q, grad_k, grad_v, grad_bias


def _scatter(weights: Tensor, values: Tensor, like: Tensor, block: int) -> Tensor:
    """Sum over the queries of weight x value, per key: both pairs that a block of keys is part of."""
    out = torch.empty_like(like)
    blocks = out.flatten(0, 2)
    blocks[-1].zero_()
    torch.bmm(weights[:, :, :block].transpose(1, 2), values, out=blocks[:-1])
    blocks[1:].baddbmm_(weights[:, :, block:].transpose(1, 2), values)
    return out
