"""Assignment of segments to points in one loop. Reference: `models.targets.plain_assign`, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tal_bench.system.compiled import compiled


def assign_to_points(
    points: tuple[Tensor, Tensor, Tensor],
    segments: Sequence[Tensor],
    labels: Sequence[Tensor],
    classes: int,
    radius: float | None,
    tie: float,
) -> tuple[Tensor, Tensor]:
    """Return labels [B, P, K] and offsets [B, P, 2] on the CPU, see `models.targets.assign`.

    Args:
        points: Positions [P], strides [P] and regression ranges [P, 2].
        segments: Segments [N, 2] per video.
        labels: Class indices [N] per video.
        classes: Number of classes K.
        radius: Radius in strides of the level; None means anywhere strictly inside the segment.
        tie: Segments whose lengths differ by less all label their point.
    """
    B, P = len(segments), len(points[0])
    target, offsets = torch.zeros(B, P, classes), torch.zeros(B, P, 2)
    first = np.cumsum([0, *map(len, segments)])
    types = (
        "f4[::1], f4[::1], f4[:, ::1], f4[:, ::1], i8[::1], i8[::1], b1, f4, f4, f4[:, :, ::1], f4[:, :, ::1]"
    )
    compiled(_assign, f"void({types})")(
        *(part.numpy() for part in points),
        torch.cat([s.float().view(-1, 2) for s in segments]).numpy(),
        torch.cat([x.view(-1) for x in labels]).numpy(),
        first,
        radius is not None,
        np.float32(radius or 0),
        np.float32(tie),
        target.numpy(),
        offsets.numpy(),
    )
    return target, offsets


def _assign(  # type: ignore[no-untyped-def]
    position, stride, reach, segments, labels, first, centred, radius, tie, target, offsets
):
    half = np.float32(0.5)
    for video in range(len(first) - 1):
        low, high = first[video], first[video + 1]
        lengths = np.empty(high - low, np.float32)
        for p in range(len(position)):
            shortest, winner = np.float32(np.inf), -1
            for i in range(low, high):
                start, end = segments[i]
                left, right = position[p] - start, end - position[p]
                inside = min(left, right) > 0
                if centred:
                    centre = half * (start + end)
                    from_left = position[p] - max(centre - stride[p] * radius, start)
                    inside = min(from_left, min(centre + stride[p] * radius, end) - position[p]) > 0
                farthest = max(left, right)
                candidate = inside and reach[p, 0] <= farthest <= reach[p, 1]
                lengths[i - low] = end - start if candidate else np.float32(np.inf)
                if lengths[i - low] < shortest:
                    shortest, winner = lengths[i - low], i
            if winner < 0:
                continue
            offsets[video, p, 0] = (position[p] - segments[winner, 0]) / stride[p]
            offsets[video, p, 1] = (segments[winner, 1] - position[p]) / stride[p]
            for i in range(low, high):
                if lengths[i - low] <= shortest + tie:
                    target[video, p, labels[i]] = 1
