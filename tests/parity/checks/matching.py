"""Comparison of two sets of detections, in which the order of near-equal scores may differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from . import Compared
from .arrays import Array

SCORE_TOLERANCE = 1e-4  # relative
SEGMENT_TOLERANCE = 1e-5  # of the longest time
FAR = 1e6  # largest squared error of a segment, in tolerances


@dataclass(frozen=True)
class Detections:
    """Segments [N, 2], scores [N] and labels [N]."""

    segments: Array
    scores: Array
    labels: Array


Excuse = Callable[[Array, float], bool]
"""Function (segment, score) -> whether the segment may be missing because it is at a threshold."""


def matched(what: str, ours: Detections, theirs: Detections, excused: Excuse) -> Iterator[Compared]:
    """Compare detections that `pairs` matches; the others must be excused."""
    pair = pairs(ours, theirs)
    free = np.ones(len(ours.scores), dtype=bool)
    free[pair[pair >= 0]] = False
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


def pairs(ours: Detections, theirs: Detections) -> Array:
    """Return the index of ours for each of theirs, -1 for none: same label and a near-equal score.

    Among near-equal scores, all pairs of a label are chosen together, so that the sum of squared errors is
    smallest (one after the other, equal segments with slightly different scores would be exchanged). Times
    that are not finite are not compared.
    """
    pair = np.full(len(theirs.scores), -1)
    for label in np.unique(theirs.labels):
        mine, his = np.flatnonzero(ours.labels == label), np.flatnonzero(theirs.labels == label)
        for i, j in _near_groups(ours.scores[mine], theirs.scores[his]):
            _assign(ours, theirs, mine[i], his[j], pair)
    return pair


def _near_groups(x: Array, y: Array) -> Iterator[tuple[Array, Array]]:
    """Yield indices of x and of y, split where sorted scores are too far apart for any pair."""
    both = np.concatenate([x, y]).astype(np.float64)
    order = np.argsort(both)
    split = np.flatnonzero(np.diff(both[order]) > _slack(both[order][1:])) + 1
    for group in np.split(order, split):
        i, j = group[group < len(x)], group[group >= len(x)] - len(x)
        if len(i) and len(j):
            yield i, j


def _assign(ours: Detections, theirs: Detections, i: Array, j: Array, pair: Array) -> None:
    """Pair theirs j with ours i at the smallest cost, in place."""
    score = np.abs(ours.scores[i, None].astype(np.float64) - theirs.scores[None, j])
    scale = SEGMENT_TOLERANCE * max(1.0, float(np.nan_to_num(np.abs(theirs.segments)).max()))
    apart = np.nan_to_num(np.abs(ours.segments[i, None].astype(np.float64) - theirs.segments[None, j]))
    near = score <= _slack(theirs.scores[None, j].astype(np.float64))
    cost = (score / _slack(theirs.scores[None, j].astype(np.float64))) ** 2
    cost = cost + np.minimum((apart.max(axis=2) / scale) ** 2, FAR)
    for row, column in zip(*linear_sum_assignment(np.where(near, cost, FAR * len(i) * len(j))), strict=True):
        if near[row, column]:
            pair[j[column]] = i[row]


def _slack(scores: Array) -> Array:
    return 2 * SCORE_TOLERANCE * np.abs(scores) + 1e-12
