"""Two sets of scored segments as sets: ranks of near-equal scores may differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import Compared
from .arrays import Array

SCORE_TOLERANCE = 1e-4  # relative
SEGMENT_TOLERANCE = 1e-5  # of the longest time


@dataclass(frozen=True)
class Found:
    """Segments [N, 2], scores [N], labels [N]."""

    segments: Array
    scores: Array
    labels: Array


Excuse = Callable[[Array, float], bool]
"""Whether a segment with that score may be missing, because it lies at a threshold."""


def matched(what: str, ours: Found, theirs: Found, excused: Excuse) -> Iterator[Compared]:
    """Pair each of theirs with the nearest of ours of that label among those of near-equal score."""
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
    lost = [i for i in np.flatnonzero(pair < 0) if not excused(theirs.segments[i], theirs.scores[i])]
    extra = [i for i in np.flatnonzero(free) if not excused(ours.segments[i], ours.scores[i])]
    yield Compared(f"{what}: {len(lost)} missing, {len(extra)} too many", float(len(lost) + len(extra)), 0.0)
    kept = np.flatnonzero(pair >= 0)
    if len(kept) == 0:
        return
    x, y = ours.scores[pair[kept]].astype(np.float64), theirs.scores[kept].astype(np.float64)
    yield Compared(f"{what}: scores", float((np.abs(x - y) / np.maximum(y, 1e-12)).max()), SCORE_TOLERANCE)
    a, b = ours.segments[pair[kept]].astype(np.float64), theirs.segments[kept].astype(np.float64)
    scale = max(1.0, float(np.abs(b).max()))
    yield Compared(f"{what}: segments", float(np.abs(a - b).max()) / scale, SEGMENT_TOLERANCE)
