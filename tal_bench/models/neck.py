"""Necks: per-level normalisation, optionally after temporal attention, and a feature pyramid network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.models.layers import Conv, DepthwiseConv, layer_norm
from tal_bench.models.ops.kernels import use_custom_kernels


class TemporalAttention(nn.Module):
    """Squeeze-and-excitation over time: channel mean -> bottleneck -> one weight per step (C2MS-Net).

    The layers are tied to absolute positions, so longer inputs are resized to ``length`` and back.

    Args:
        length: Length T_l for which the layer is built.
        reduction: Factor by which the bottleneck is narrower.
    """

    def __init__(self, length: int, reduction: int = 8) -> None:
        super().__init__()
        self.length = length
        bottleneck = max(1, length // reduction)
        self.squeeze = nn.Linear(length, bottleneck, bias=False)
        self.excite = nn.Linear(bottleneck, length, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D] for T >= length."""
        steps = x.mean(dim=2)
        resized = not use_custom_kernels() or x.shape[1] != self.length  # exporters need one graph for all
        if resized:
            steps = nearest(steps, self.length)
        weights = self.excite(F.relu(self.squeeze(steps))).sigmoid()
        if resized:
            weights = nearest(weights, x.shape[1])
        out: Tensor = x * weights[:, :, None]
        return out


def nearest(x: Tensor, size: int) -> Tensor:
    """Resize [B, T] -> [B, size] like `F.interpolate` in mode nearest, whose rounding exporters change."""
    step = x.shape[1] / size
    index = (torch.arange(size, device=x.device, dtype=torch.float32) * step).floor().long()
    return x[:, index.clamp(max=x.shape[1] - 1)]


class GroupNorm(nn.Module):
    """Group normalisation over all steps, padded ones included, without weights (TemporalMaxer).

    Results depend on the amount of padding, as in the original code.
    """

    groups = 4

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        return F.group_norm(x.transpose(1, 2), self.groups).transpose(1, 2)


class Neck(nn.Module):
    """Identity neck: normalised features of every level from the first one on."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.attention = (
            nn.ModuleList(TemporalAttention(spec.max_length // stride) for stride in spec.level_strides)
            if spec.temporal_attention
            else None
        )
        self.first = spec.first_level
        self.norms = nn.ModuleList(
            GroupNorm() if spec.neck_norm == "group" else layer_norm(spec.width, bool(spec.neck_norm))
            for _ in range(spec.levels)
        )

    def forward(self, features: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Features [B, T_l, D] of all levels -> those from the first level on, with masks [B, T_l, 1]."""
        features = features[self.first :]
        if self.attention is not None:
            features = [attend(x) for attend, x in zip(self.attention, features, strict=True)]
        return [norm(x) for norm, x in zip(self.norms, features, strict=True)]


class FpnNeck(nn.Module):
    """Feature pyramid network: coarser levels are added to finer ones and smoothed (arXiv 1612.03144)."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        width, bias = spec.neck_channels, not spec.neck_norm
        self.first = spec.first_level
        self.lateral = nn.ModuleList(Conv(spec.width, width, kernel=1, bias=bias) for _ in range(spec.levels))
        self.smooth = nn.ModuleList(DepthwiseConv(width, 3, bias=bias) for _ in range(spec.levels))
        self.norms = nn.ModuleList(layer_norm(width, bool(spec.neck_norm)) for _ in range(spec.levels))

    def forward(self, features: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Features [B, T_l, D] of all levels -> those from the first level on, with masks [B, T_l, 1]."""
        levels = [
            lateral(x) * mask
            for lateral, x, mask in zip(self.lateral, features[self.first :], masks, strict=True)
        ]
        for fine in range(len(levels) - 2, -1, -1):
            levels[fine] = levels[fine] + levels[fine + 1].repeat_interleave(2, dim=1)
        smoothed = [smooth(x) * mask for smooth, x, mask in zip(self.smooth, levels, masks, strict=True)]
        return [norm(x) for norm, x in zip(self.norms, smoothed, strict=True)]
