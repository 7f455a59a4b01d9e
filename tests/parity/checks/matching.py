"""Comparison of two sets of detections, in which the order of near-equal scores may differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import Compared
from .arrays import Array

SCORE_TOLERANCE = 1e-4  # relative
SEGMENT_TOLERANCE = 1e-5  # of the longest time


@dataclass(frozen=True)
class Detections:
    """Segments [N, 2], scores [N] and labels [N]."""

    segments: Array
    scores: Array
    labels: Array


Excuse = Callable[[Array, float], bool]
"""Function (segment, score) -> whether the segment may be missing because it is at a threshold."""


def matched(what: str, ours: Detections, theirs: Detections, excused: Excuse) -> Iterator[Compared]:
    """Match each of theirs with the nearest of ours that has the same label and a near-equal score."""
    free = np.ones(len(ours.scores), dtype=bool)
    pair = np.full(len(theirs.scores), -1)
    for label in np.unique(theirs.labels):
        rows = np.flatnonzero(ours.labels == label)
        rows = rows[np.argsort(ours.scores[rows], kind="stable")]
        scores = ours.scores[rows].astype(np.float64)
        for i in np.flatnonzero(theirs.labels == label):
            slack = 2 * SCORE_TOLERANCE * float(theirs.scores[i]) + 1e-12
            low, high = np.searchsorted(scores, [theirs.scores[i] - slack, theirs.scores[i] + slack])
            pool = rows[low:high]
            pool = pool[free[pool]]
            if len(pool):
                apart = np.abs(ours.segments[pool] - theirs.segments[i]).sum(axis=1)
                pair[i] = pool[int(np.argmin(apart))]
                free[pair[i]] = False
    missing = [i for i in np.flatnonzero(pair < 0) if not excused(theirs.segments[i], theirs.scores[i])]
    extra = [i for i in np.flatnonzero(free) if not excused(ours.segments[i], ours.scores[i])]
    yield Compared(
        f"{what}: {len(missing)} missing, {len(extra)} too many", float(len(missing) + len(extra)), 0.0
    )
    kept = np.flatnonzero(pair >= 0)
    if len(kept) == 0:
        return
    x, y = ours.scores[pair[kept]].astype(np.float64), theirs.scores[kept].astype(np.float64)
    yield Compared(f"{what}: scores", float((np.abs(x - y) / np.maximum(y, 1e-12)).max()), SCORE_TOLERANCE)
    a, b = ours.segments[pair[kept]].astype(np.float64), theirs.segments[kept].astype(np.float64)
    scale = max(1.0, float(np.abs(b).max()))
    yield Compared(f"{what}: segments", float(np.abs(a - b).max()) / scale, SEGMENT_TOLERANCE)
