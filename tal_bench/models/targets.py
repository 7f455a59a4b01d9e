"""Assignment of annotated segments to the points of the pyramid (centre sampling of ActionFormer)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tal_bench.config import DetectorSpec
from tal_bench.models.ops.assignment import assign_to_points
from tal_bench.types import Batch, PointLabels

TIE = 1e-3
"""Segments whose lengths differ by less than this all label their point."""


@dataclass(frozen=True, slots=True)
class Points:
    """The P = sum T_l points of a pyramid.

    Attributes:
        position: Positions [P] on the input grid, i * 2^l without a half step.
        stride: Strides [P] of the points' levels.
        reach: Regression range [P, 2] of the points' levels: smallest and largest distance to the farther end
            of a segment.
    """

    position: Tensor
    stride: Tensor
    reach: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of the heads.

    Attributes:
        classes: Labels [B, P, K], 0 or 1.
        offsets: Distances [B, P, 2] to start and end in strides; defined where a class is 1.
    """

    classes: Tensor
    offsets: Tensor


def pyramid_points(spec: DetectorSpec, lengths: Sequence[int], device: torch.device | str = "cpu") -> Points:
    """Return the points of levels with the given lengths T_l."""
    position, stride, reach = [], [], []
    for stride_, length, limits in zip(spec.level_strides, lengths, spec.regression_ranges, strict=True):
        step = float(stride_)
        position.append(torch.arange(length, device=device) * step)
        stride.append(torch.full((length,), step, device=device))
        reach.append(torch.tensor(limits, device=device, dtype=torch.float32).expand(length, 2))
    return Points(torch.cat(position), torch.cat(stride), torch.cat(reach))


def assign(points: Points, segments: Tensor, labels: Tensor, classes: int, radius: float | None) -> Targets:
    """Assign to every point the shortest segment that it is a candidate for.

    The candidates of a segment are the points strictly within ``radius`` strides of its centre, and strictly
    inside the segment, on levels whose regression range contains the larger offset, both ends inclusive.

    Args:
        points: Points of the pyramid, P in all.
        segments: Segments [B, N, 2] on the input grid.
        labels: Class indices [B, N]; -1 where there is no segment.
        classes: Number of classes K.
        radius: Radius in strides of the level; None means anywhere strictly inside the segment.
    """
    if points.position.device.type == "cpu" and segments.dtype == torch.float32:
        parts = (points.position, points.stride, points.reach)
        return Targets(*assign_to_points(parts, segments, labels, classes, radius, TIE))
    return plain_assign(points, segments, labels, classes, radius)


def plain_assign(
    points: Points, segments: Tensor, labels: Tensor, classes: int, radius: float | None
) -> Targets:
    """Compute `assign` in library calls; the reference of `ops.assignment`."""
    start, end = segments[:, None, :, 0], segments[:, None, :, 1]  # [B, 1, N]
    position, stride = points.position[None, :, None], points.stride[None, :, None]  # [1, P, 1]
    left, right = position - start, end - position  # [B, P, N]
    if radius is None:
        inside = torch.minimum(left, right) > 0
    else:
        centre = 0.5 * (start + end)
        from_left = position - torch.maximum(centre - stride * radius, start)
        from_right = torch.minimum(centre + stride * radius, end) - position
        inside = torch.minimum(from_left, from_right) > 0
    farthest = torch.maximum(left, right)
    in_reach = (farthest >= points.reach[None, :, None, 0]) & (farthest <= points.reach[None, :, None, 1])
    length = (end - start).expand_as(left)
    length = length.masked_fill(~(inside & in_reach & (labels >= 0)[:, None]), float("inf"))
    shortest, winner = length.min(dim=2)
    wins = (length <= shortest[:, :, None] + TIE) & length.isfinite()
    one_hot = labels[:, :, None] == torch.arange(classes, device=labels.device)
    target = (wins.to(segments.dtype) @ one_hot.to(segments.dtype)).clamp_(0.0, 1.0)
    pick = winner[:, :, None]
    offsets = torch.cat([left.gather(2, pick), right.gather(2, pick)], dim=2) / points.stride[None, :, None]
    return Targets(target, offsets)


def point_labels(targets: Targets, masks: Sequence[Tensor], batch: Batch) -> PointLabels:
    """Return the targets level by level, with masks [B, T_l] of the levels and the segments of the batch."""
    lengths = [mask.shape[1] for mask in masks]
    classes = targets.classes.split_with_sizes(lengths, dim=1)
    return PointLabels(
        classes=classes,
        offsets=targets.offsets.split_with_sizes(lengths, dim=1),
        positive=[(x.sum(dim=2) > 0) & mask for x, mask in zip(classes, masks, strict=True)],
        segments=batch.segments,
        segment_labels=batch.labels,
        strides=[batch.mask.shape[1] // length for length in lengths],
    )
