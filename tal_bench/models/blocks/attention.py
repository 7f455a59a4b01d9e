"""Self-attention within a sliding window, and over the whole sequence (ActionFormer, arXiv 2202.07925)."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.models.layers import Conv, DepthwiseConv, LayerNorm
from tal_bench.models.ops.blocked_attention import attend_to_pairs
from tal_bench.models.ops.kernels import use_custom_kernels
from tal_bench.models.ops.reference import plain_attend_to_pairs

PADDED_KEY = -1e4
"""Added to the scores of padded keys in local attention; a window without real keys stays finite."""
OUTSIDE = -1e30
"""Added to the scores of what is not to be seen: as good as -inf, and finite where nothing is to be seen."""


class ConvAttention(nn.Module):
    """Multi-head self-attention whose queries, keys and values pass a depthwise convolution first.

    Args:
        channels: C, divisible by ``heads``.
        heads: number of heads.
        window: steps seen by a query, odd; <= 1 means all.
        stride: 2 halves the sequence, in the depthwise convolutions.
        relative: add a learned bias per head and distance; in local attention only.
    """

    def __init__(
        self, channels: int, heads: int, window: int, stride: int = 1, *, relative: bool = False
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.depthwise = nn.ModuleList(DepthwiseConv(channels, 3, stride, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(LayerNorm(channels) for _ in range(3))
        self.projections = nn.ModuleList(Conv(channels, channels, kernel=1) for _ in range(3))
        self.out = Conv(channels, channels, kernel=1)
        self.relative: nn.Parameter | None = None
        if relative and window > 1:  # one dimension [heads * window], so that it does not decay
            std = math.sqrt(2 / channels)
            self.relative = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads * window), std=std))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, T, C] -> [B, T / stride, C], of no meaning where ``mask`` [B, T / stride, 1] is 0."""
        # padded steps stay as they are: as keys they are not heard, as queries not used
        q, k, v = (
            self._split(project(norm(conv(x))))
            for conv, norm, project in zip(self.depthwise, self.norms, self.projections, strict=True)
        )
        if self.window > 1:
            relative = None if self.relative is None else self.relative.unflatten(0, (self.heads, -1))
            mixed = local_attention(q, k, v, mask[:, :, 0], self.window, relative)
        else:
            mixed = full_attention(q, k, v, mask[:, :, 0])
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, heads, T, C / heads]."""
        split: Tensor = x.unflatten(2, (self.heads, -1))
        return split.transpose(1, 2)


def full_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Every query sees every real key; shapes as in `local_attention`, scores masked with -inf."""
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return scores.softmax(dim=-1) @ v


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int, relative: Tensor | None = None
) -> Tensor:
    """Queries see the keys at most ``window // 2`` steps away.

    The sequence is cut into blocks; a block of queries meets its own keys and those of a margin on both
    sides in one batched product, so that nothing beyond the margins is computed.

    Args:
        q: [B, heads, T, d] queries.
        k: [B, heads, T, d] keys.
        v: [B, heads, T, d] values.
        mask: [B, T], 1 where a step is real.
        window: odd.
        relative: [heads, window], added to the scores of keys by their distance, farthest before first.

    Returns:
        [B, heads, T, d], of no meaning where the query is padded.
    """
    T = q.shape[2]
    reach = window // 2
    block = 2 * reach  # so that a block's keys are exactly two neighbouring blocks of the padded sequence
    # exporters take a size of 1 for a constant: for them no level is a single block
    tail = -T % block if use_custom_kernels() else (T // block + 2) * block - T
    bias = _window_bias(mask, reach, tail)
    if relative is not None:
        bias = bias + _distance_bias(relative, reach)
    after = tail + block  # a block of its own behind every sequence: its keys are nobody's but the margins'
    q = F.pad(q, (0, 0, 0, after)).unflatten(2, (-1, block))
    k, v = (F.pad(x, (0, 0, reach, reach + tail)).unflatten(2, (-1, block)) for x in (k, v))
    attend = attend_to_pairs if use_custom_kernels() else plain_attend_to_pairs
    out = attend(q, k, v, bias.expand(q.shape[0], q.shape[1], -1, -1, -1))
    return out.flatten(2, 3)[:, :, :T]


def _distance_bias(relative: Tensor, reach: int) -> Tensor:
    """[heads, window] -> [heads, 1, block, keys]; what lies outside the window is masked elsewhere."""
    distance = _distance(reach, relative.device).clamp(-reach, reach) + reach
    return relative[:, distance][:, None]


def _window_bias(mask: Tensor, reach: int, tail: int) -> Tensor:
    """[B, 1, blocks + 1, block, keys]: -1e4 at padded keys, far less outside the window or the sequence."""
    keys = F.pad((1.0 - mask) * PADDED_KEY, (reach, 3 * reach + tail), value=OUTSIDE)
    chunks = keys.unflatten(1, (-1, 2 * reach))
    per_key = torch.cat([chunks[:, :-1], chunks[:, 1:]], dim=2)
    return per_key[:, None, :, None, :] + _outside_window(reach, mask.device)


@lru_cache(maxsize=16)
def _outside_window(reach: int, device: torch.device) -> Tensor:
    """[block, keys] float: 0 within the window of the query."""
    return (_distance(reach, device).abs() > reach) * OUTSIDE


def _distance(reach: int, device: torch.device) -> Tensor:
    """[block, keys]: steps from query to key."""
    key = torch.arange(4 * reach, device=device) - reach
    return key[None, :] - torch.arange(2 * reach, device=device)[:, None]
