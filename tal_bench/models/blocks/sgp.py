"""Scalable-granularity perception block of TriDet (CVPR 2023, arXiv 2303.07347)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.models.layers import AffineDropPath, Conv, DepthwiseConv, LayerNorm, Residual
from tal_bench.models.ops.kernels import max_pool

GROUPS = 16
"""Groups of the group normalisation; the width must be a multiple of it."""


class SgpBlock(nn.Module):
    """Instant branch gated by the mean over time, plus a window branch gated per step, then an MLP.

    With y = LayerNorm(x): fc(y) relu(global(mean_t y)) + (narrow(y) + wide(y)) gate(y) + y, where all
    convolutions are depthwise. As in the original code, the mean and the group normalisation include padded
    steps, so results depend on the amount of padding.

    Args:
        channels: Number of channels C, a multiple of 16.
        window: Odd size w of the narrow kernel.
        scale: Factor k; the size of the wide kernel is (w + 1) k, rounded and made odd.
        hidden: Width of the MLP.
        stride: 1 or 2.
        pool: Pooling that halves the sequence; `avg` is followed by a convolution of kernel 1.
        drop_path: Probability of dropping a branch in training.
        scaled: Whether both branches have a learned scale, which stem blocks lack.
    """

    def __init__(
        self,
        channels: int,
        window: int,
        scale: float,
        hidden: int,
        stride: int,
        *,
        pool: Literal["max", "avg"] = "max",
        drop_path: float = 0.0,
        scaled: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.pool = stride, pool
        self.after_pool = Conv(channels, channels, kernel=1) if stride > 1 and pool == "avg" else None
        self.norm = LayerNorm(channels)
        self.instant = DepthwiseConv(channels, 1)
        self.average = DepthwiseConv(channels, 1)
        self.gate = DepthwiseConv(channels, window)
        self.narrow = DepthwiseConv(channels, window)
        self.wide = DepthwiseConv(channels, wide_kernel(window, scale))
        self.group_norm = nn.GroupNorm(GROUPS, channels)
        self.mlp = nn.Sequential(
            Conv(channels, hidden, kernel=1), nn.GELU(), Conv(hidden, channels, kernel=1)
        )
        self.drop_mix = AffineDropPath(channels, drop_path) if scaled else Residual()
        self.drop_mlp = AffineDropPath(channels, drop_path) if scaled else Residual()

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> [B, T / stride, C]."""
        mask = mask[:, :: self.stride]
        x = self._halve(x) if self.stride == 2 else x
        y = self.norm(x)
        mixed = self.instant(y) * F.relu(self.average(y.mean(dim=1, keepdim=True)))
        mixed = torch.addcmul(mixed + y, self.narrow(y) + self.wide(y), self.gate(y))
        x = self.drop_mix(x * mask, mixed)
        normed = self.group_norm(x.transpose(1, 2)).transpose(1, 2)
        return self.drop_mlp(x, self.mlp(normed)), mask

    def _halve(self, x: Tensor) -> Tensor:
        if self.after_pool is None:
            return max_pool(x)
        halved: Tensor = self.after_pool(0.5 * (x[:, 0::2] + x[:, 1::2]))
        return halved


def wide_kernel(window: int, scale: float) -> int:
    """Return the size of the wide kernel: (w + 1) k rounded half to even, then up to an odd number."""
    size = round((window + 1) * scale)
    return size + 1 if size % 2 == 0 else size
