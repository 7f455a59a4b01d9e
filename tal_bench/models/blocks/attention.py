"""Self-attention within a sliding window or over the whole sequence (ActionFormer, arXiv 2202.07925)."""

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
"""Added to the scores of padded keys in local attention; finite, so windows without valid keys are too."""
OUTSIDE = -1e30
"""Added to the scores of keys outside the window; like -inf, but finite where all keys are outside."""


class ConvAttention(nn.Module):
    """Multi-head self-attention with a depthwise convolution before the projections of q, k and v.

    Args:
        channels: Number of channels C, divisible by ``heads``.
        heads: Number of heads.
        window: Odd number of steps that a query attends to; <= 1 means all.
        stride: Stride of the depthwise convolutions; 2 halves the sequence.
        relative: Whether to add a learned bias per head and distance; in local attention only.
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
        if relative and window > 1:  # one dimension [heads * window], hence no weight decay
            std = math.sqrt(2 / channels)
            self.relative = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads * window), std=std))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, T, C] -> [B, T / stride, C], undefined where ``mask`` [B, T / stride, 1] is 0."""
        # padded steps need no masking here: their keys are masked below and their outputs are not used
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
    """Attend from every query to every valid key; shapes as in `local_attention`, scores masked with -inf."""
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2)
    scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return scores.softmax(dim=-1) @ v


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int, relative: Tensor | None = None
) -> Tensor:
    """Attend from every query to the keys at most ``window // 2`` steps away.

    The sequence is cut into blocks. A block of queries is multiplied with its own keys and a margin on both
    sides in one batched product, so that nothing beyond the margins is computed.

    Args:
        q: Queries [B, heads, T, d].
        k: Keys [B, heads, T, d].
        v: Values [B, heads, T, d].
        mask: Mask [B, T], 1 where a step is valid.
        window: Odd number of steps.
        relative: Bias [heads, window] added to the scores by the distance of the key, from the farthest key
            before the query to the farthest after it.

    Returns:
        Attended values [B, heads, T, d], undefined where the query is padded.
    """
    T = q.shape[2]
    reach = window // 2
    block = 2 * reach  # so that a block's keys are exactly two neighbouring blocks of the padded sequence
    # exporters treat a size of 1 as a constant, so for them every level has at least two blocks
    tail = -T % block if use_custom_kernels() else (T // block + 2) * block - T
    bias = _window_bias(mask, reach, tail)
    if relative is not None:
        bias = bias + _distance_bias(relative, reach)
    after = tail + block  # an extra block per sequence, whose keys serve only as the margin of the last block
    q = F.pad(q, (0, 0, 0, after)).unflatten(2, (-1, block))
    k, v = (F.pad(x, (0, 0, reach, reach + tail)).unflatten(2, (-1, block)) for x in (k, v))
    attend = attend_to_pairs if use_custom_kernels() else plain_attend_to_pairs
    out = attend(q, k, v, bias.expand(q.shape[0], q.shape[1], -1, -1, -1))
    return out.flatten(2, 3)[:, :, :T]


def _distance_bias(relative: Tensor, reach: int) -> Tensor:
    """[heads, window] -> [heads, 1, block, keys]; keys outside the window are masked by `_window_bias`."""
    distance = _distance(reach, relative.device).clamp(-reach, reach) + reach
    return relative[:, distance][:, None]


def _window_bias(mask: Tensor, reach: int, tail: int) -> Tensor:
    """Return [B, 1, blocks + 1, block, keys]: -1e4 at padded keys, -1e30 outside the window or sequence."""
    keys = F.pad((1.0 - mask) * PADDED_KEY, (reach, 3 * reach + tail), value=OUTSIDE)
    chunks = keys.unflatten(1, (-1, 2 * reach))
    per_key = torch.cat([chunks[:, :-1], chunks[:, 1:]], dim=2)
    return per_key[:, None, :, None, :] + _outside_window(reach, mask.device)


@lru_cache(maxsize=16)
def _outside_window(reach: int, device: torch.device) -> Tensor:
    """Return [block, keys]: 0 within the window of the query, -1e30 outside."""
    return (_distance(reach, device).abs() > reach) * OUTSIDE


def _distance(reach: int, device: torch.device) -> Tensor:
    """Return the number of steps [block, keys] from query to key."""
    key = torch.arange(4 * reach, device=device) - reach
    return key[None, :] - torch.arange(2 * reach, device=device)[:, None]
