"""Assignment of segments to points in one loop. Reference: `models.targets.plain_assign`, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tal_bench.system.compiled import compiled


def assign_to_points(
    points: tuple[Tensor, Tensor, Tensor],
    segments: Tensor,
    labels: Tensor,
    classes: int,
    radius: float | None,
    tie: float,
) -> tuple[Tensor, Tensor]:
    """Return labels [B, P, K] and offsets [B, P, 2] on the CPU, see `models.targets.assign`.

    Args:
        points: Positions [P], strides [P] and regression ranges [P, 2].
        segments: Segments [B, N, 2].
        labels: Class indices [B, N]; -1 where there is no segment.
        classes: Number of classes K.
        radius: Radius in strides of the level; None means anywhere strictly inside the segment.
        tie: Segments whose lengths differ by less all label their point.
    """
    B, P = len(segments), len(points[0])
    target, offsets = torch.zeros(B, P, classes), torch.zeros(B, P, 2)
    array3 = "f4[:, :, ::1]"
    types = f"f4[::1], f4[::1], f4[:, ::1], {array3}, i8[:, ::1], b1, f4, f4, {array3}, {array3}"
    compiled(_assign, f"void({types})")(
        *(part.numpy() for part in points),
        segments.contiguous().numpy(),
        labels.contiguous().numpy(),
        radius is not None,
        np.float32(radius or 0),
        np.float32(tie),
        target.numpy(),
        offsets.numpy(),
    )
    return target, offsets


def _assign(  # type: ignore[no-untyped-def]
    position, stride, reach, segments, labels, centred, radius, tie, target, offsets
):
    half = np.float32(0.5)
    lengths = np.empty(segments.shape[1], np.float32)
    for video in range(len(segments)):
        count = np.flatnonzero(labels[video] >= 0)[-1:].sum() + 1  # of segments, up to the last one
        for p in range(len(position)):
            shortest, winner = np.float32(np.inf), -1
            for i in range(count):
                start, end = segments[video, i]
                left, right = position[p] - start, end - position[p]
                inside = min(left, right) > 0
                if centred:
                    centre = half * (start + end)
                    from_left = position[p] - max(centre - stride[p] * radius, start)
                    inside = min(from_left, min(centre + stride[p] * radius, end) - position[p]) > 0
                farthest = max(left, right)
                candidate = labels[video, i] >= 0 and inside and reach[p, 0] <= farthest <= reach[p, 1]
                lengths[i] = end - start if candidate else np.float32(np.inf)
                if lengths[i] < shortest:
                    shortest, winner = lengths[i], i
            if winner < 0:
                continue
            offsets[video, p, 0] = (position[p] - segments[video, winner, 0]) / stride[p]
            offsets[video, p, 1] = (segments[video, winner, 1] - position[p]) / stride[p]
            for i in range(count):
                if lengths[i] <= shortest + tie:
                    target[video, p, labels[video, i]] = 1
