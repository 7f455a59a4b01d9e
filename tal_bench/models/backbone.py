"""Embedding, stem and branch: from the input to the feature pyramid."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.models.layers import layer_norm, masked, relu, sinusoidal_positions
from tal_bench.models.ops.kernels import use_custom_kernels
from tal_bench.models.structures import structure_of


class Backbone(nn.Module):
    """Convolutional embedding, stem blocks at full length, branch blocks of stride 2.

    The finest level of the pyramid is the stem's output, whichever level the neck reads first.

    Args:
        spec: Architecture.

    Raises:
        InputError: If its structure is unknown or does not fit.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        structure = structure_of(spec)
        conv = structure.conv
        self.input_widths = spec.input_widths
        self.projections = nn.ModuleList(
            conv(c_in, c_out, 1)
            for c_in, c_out in zip(spec.input_widths, spec.projection, strict=bool(spec.projection))
        )
        first = spec.width if spec.projection else spec.input_channels
        self.embedding = nn.ModuleList(
            conv(c_in, c_out, spec.embed_kernel, bias=not spec.embed_norm)
            for c_in, c_out in pairwise([first] + [spec.width] * spec.embed_layers)
        )
        self.embedding_norms = nn.ModuleList(layer_norm(spec.width, spec.embed_norm) for _ in self.embedding)
        self.stem = nn.ModuleList(structure.block(spec, 0, 1) for _ in range(spec.stem_blocks))
        self.branch = nn.ModuleList(structure.block(spec, 1 + i, 2) for i in range(spec.branch_blocks))
        self.positions: Tensor | None
        table = sinusoidal_positions(spec.max_length, spec.width) if spec.position_embedding else None
        self.register_buffer("positions", table, persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Input [B, T, C] and mask [B, T, 1] -> per level [B, T_l, D] and [B, T_l, 1]."""
        return self.compute_pyramid(*self.compute_stem(x, mask))

    def compute_stem(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Input [B, T, C] and mask [B, T, 1] -> output of the stem [B, T, D] and its mask."""
        if len(self.projections):
            parts = zip(self.projections, x.split(self.input_widths, dim=2), strict=True)
            x = torch.cat([masked(project(part), mask) for project, part in parts], dim=2)
        for conv, norm in zip(self.embedding, self.embedding_norms, strict=True):
            x = relu(norm(masked(conv(x), mask)))
        if self.positions is not None:
            x = x + self._positions(x.shape[1]).to(x.dtype) * mask
        for block in self.stem:
            x, mask = block(x, mask)
        return x, mask

    def compute_pyramid(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Stem [B, T, D] and mask [B, T, 1] -> per level [B, T_l, D] and [B, T_l, 1], the stem first."""
        features, masks = [x], [mask]
        for block in self.branch:
            x, mask = block(x, mask)
            features.append(x)
            masks.append(mask)
        return features, masks

    def _positions(self, length: int) -> Tensor:
        """Return [length, D], interpolated linearly when the input is longer than the table."""
        table = self.positions
        assert table is not None
        if not use_custom_kernels():
            return _interpolated(table, length)
        if length <= table.shape[0]:
            return table[:length]
        return F.interpolate(table.T[None], length, mode="linear", align_corners=False)[0].T


def _interpolated(table: Tensor, length: int) -> Tensor:
    """Both cases of `Backbone._positions` in one graph, for exporters: [P, D] -> [length, D]."""
    last = table.shape[0]
    steps = torch.arange(length, device=table.device, dtype=torch.float32)
    position = ((steps + 0.5) * (last / (steps[-1:] + 1).clamp(min=last)) - 0.5).clamp(min=0.0)
    before = position.floor().long().clamp(max=last - 1)
    share = (position - before)[:, None]
    return (1 - share) * table[before] + share * table[(before + 1).clamp(max=last - 1)]


def pyramid_divisor(spec: DetectorSpec) -> int:
    """Return the number to whose multiples inputs longer than `max_length` are padded.

    It is the largest stride times the padding of its level.
    """
    padding = structure_of(spec).padding(spec)
    return max(stride * steps for stride, steps in zip(spec.level_strides, padding, strict=False))


def sufficient_length(spec: DetectorSpec, steps: int) -> int:
    """Return the shortest padded length T that gives the same results for valid steps as `max_length`.

    Padded steps are not zero everywhere: biases and norms make them constants, which the convolutions of the
    next layer read. Every level therefore needs as many padded steps as the widest kernel reaches. Where
    results depend on the amount of padding, the length is `max_length`.

    Args:
        spec: Architecture.
        steps: Number of valid steps.
    """
    if not structure_of(spec).ignores_padding or spec.temporal_attention or spec.neck_norm == "group":
        return spec.max_length
    reach = max(spec.embed_kernel, spec.head_kernel, spec.boundary_kernel, 3) // 2
    stride = max(spec.level_strides)
    # two convolutions hallucinate features, without a mask between them
    length = stride * max(-(-steps // stride) + reach, -(-(steps + 2) // stride))
    return min(spec.max_length, length)
