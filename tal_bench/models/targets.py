"""Which points of the pyramid answer for which segments (ActionFormer's centre sampling)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tal_bench.config import DetectorSpec

TIE = 1e-3
"""Segments whose lengths differ by less all label their point."""


@dataclass(frozen=True, slots=True)
class Points:
    """The P = sum T_l points of a pyramid.

    Attributes:
        position: [P] on the input grid, i * 2^l without half step.
        stride: [P] of the point's level.
        reach: [P, 2] smallest and largest distance to a segment's far end that the level answers for.
    """

    position: Tensor
    stride: Tensor
    reach: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """What the heads should say.

    Attributes:
        classes: [B, P, K] 0 or 1.
        offsets: [B, P, 2] distances to start and end in strides; meaningful where a class is 1.
    """

    classes: Tensor
    offsets: Tensor


def pyramid_points(spec: DetectorSpec, lengths: Sequence[int], device: torch.device | str = "cpu") -> Points:
    """Points of levels with these lengths T_l."""
    position, stride, reach = [], [], []
    for stride_, length, limits in zip(spec.level_strides, lengths, spec.regression_ranges, strict=True):
        step = float(stride_)
        position.append(torch.arange(length, device=device) * step)
        stride.append(torch.full((length,), step, device=device))
        reach.append(torch.tensor(limits, device=device, dtype=torch.float32).expand(length, 2))
    return Points(torch.cat(position), torch.cat(stride), torch.cat(reach))


def assign(
    points: Points, segments: Sequence[Tensor], labels: Sequence[Tensor], classes: int, radius: float | None
) -> Targets:
    """Label every point with the shortest segment that claims it.

    A segment claims the points strictly inside ``radius`` strides around its centre, clipped to the segment,
    on the levels whose reach holds its larger offset, both ends inclusive.

    Args:
        points: P points.
        segments: per video [N, 2] on the input grid.
        labels: per video [N] class indices.
        classes: K.
        radius: in strides of the level; none = anywhere strictly inside the segment.
    """
    B, most = len(segments), max(1, *(len(s) for s in segments))
    device = points.position.device
    segment = torch.zeros(B, most, 2, device=device)
    label = torch.zeros(B, most, dtype=torch.long, device=device)
    real = torch.zeros(B, most, dtype=torch.bool, device=device)
    for i, (s, c) in enumerate(zip(segments, labels, strict=True)):
        segment[i, : len(s)], label[i, : len(s)], real[i, : len(s)] = s, c, True

    start, end = segment[:, None, :, 0], segment[:, None, :, 1]  # [B, 1, N]
    at, stride = points.position[None, :, None], points.stride[None, :, None]  # [1, P, 1]
    left, right = at - start, end - at  # [B, P, N]
    if radius is None:
        inside = torch.minimum(left, right) > 0
    else:
        centre = 0.5 * (start + end)
        from_left = at - torch.maximum(centre - stride * radius, start)
        from_right = torch.minimum(centre + stride * radius, end) - at
        inside = torch.minimum(from_left, from_right) > 0
    farthest = torch.maximum(left, right)
    in_reach = (farthest >= points.reach[None, :, None, 0]) & (farthest <= points.reach[None, :, None, 1])
    length = (end - start).expand_as(left)
    length = length.masked_fill(~(inside & in_reach & real[:, None]), float("inf"))
    shortest, winner = length.min(dim=2)
    wins = (length <= shortest[:, :, None] + TIE) & length.isfinite()
    one_hot = torch.nn.functional.one_hot(label, classes).to(segment.dtype)
    target = (wins.to(segment.dtype) @ one_hot).clamp_(0.0, 1.0)
    pick = winner[:, :, None]
    offsets = torch.cat([left.gather(2, pick), right.gather(2, pick)], dim=2) / points.stride[None, :, None]
    return Targets(target, offsets)
