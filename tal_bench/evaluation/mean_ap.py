"""Mean average precision by the AP methods of ActivityNet (interpolated) and of THUMOS'14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import (
    GROUND_TRUTH_COLUMNS,
    APMethod,
    Bools,
    EncodedTables,
    Floats,
    Ints,
    Matches,
    assign_in_order,
    build_matches,
    candidate_pairs,
    check_table,
    check_thresholds,
    encode,
    match,
    segment_tiou,
)

__all__ = [
    "Matches",
    "MeanAP",
    "ap_from_matches",
    "format_threshold",
    "interpolated_ap",
    "match",
    "thumos_ap",
    "thumos_match",
]

_CHUNK_SIZE = 2_000_000
"""Number of weights (16 MB) processed at a time, to keep the working set of a bootstrap near the cache."""


@dataclass(frozen=True, eq=False)
class MeanAP:
    """Average precision per tIoU threshold and class.

    Attributes:
        thresholds: tIoU thresholds `[T]`.
        classes: The `K` labels of the ground truth, sorted.
        ap: Average precision `[T, K]`, 0 … 1.
        ap_method: `activitynet` or `thumos`; the two are not comparable.
    """

    thresholds: Floats
    classes: tuple[Any, ...]
    ap: Floats
    ap_method: APMethod

    @property
    def map(self) -> Floats:
        """Mean over classes at each threshold `[T]`."""
        return np.asarray(self.ap.mean(axis=1))

    @property
    def average(self) -> float:
        """Mean over thresholds of `map`."""
        return float(self.map.mean())

    def as_dict(self) -> dict[str, Any]:
        """Return `ap_method`, `map`, `average_map` and `per_class`, keyed by `format_threshold`."""
        keys = [format_threshold(threshold) for threshold in self.thresholds]
        return {
            "ap_method": self.ap_method,
            "map": dict(zip(keys, self.map.tolist(), strict=True)),
            "average_map": self.average,
            "per_class": {
                str(label): dict(zip(keys, self.ap[:, k].tolist(), strict=True))
                for k, label in enumerate(self.classes)
            },
        }


def format_threshold(threshold: float) -> str:
    """Format a tIoU threshold with two decimals, or with more if it has more: 0.50, 0.125."""
    text = f"{threshold:.2f}"
    return text if abs(float(text) - threshold) < 1e-9 else f"{threshold:.6f}".rstrip("0")


def interpolated_ap(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    *,
    videos: Sequence[Any] | None = None,
) -> MeanAP:
    """Compute average precision as the ActivityNet evaluation does (all-point interpolation, VOC 2011).

    Classes of the ground truth without detections count as 0. Arguments and errors as in `match`.
    """
    matches = match(detections, ground_truth, thresholds, videos=videos)
    return MeanAP(matches.thresholds, matches.classes, ap_from_matches(matches), matches.ap_method)


def thumos_ap(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    *,
    ambiguous: str | None = "Ambiguous",
    videos: Sequence[Any] | None = None,
) -> MeanAP:
    """Compute average precision as the THUMOS'14 development kit does; see `thumos_match`."""
    matches = thumos_match(detections, ground_truth, thresholds, ambiguous=ambiguous, videos=videos)
    return MeanAP(matches.thresholds, matches.classes, ap_from_matches(matches), matches.ap_method)


def thumos_match(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    *,
    ambiguous: str | None = "Ambiguous",
    videos: Sequence[Any] | None = None,
) -> Matches:
    """Match detections to ground truth as the THUMOS'14 development kit does.

    Each ground truth in turn is matched to the unmatched detection of its video and class with the largest
    tIoU above the threshold, regardless of its score. Unmatched detections that overlap an ambiguous segment
    of their video are ignored. The ground truth is used as it is, without `clean_ground_truth`.

    Args:
        detections: As in `match`.
        ground_truth: As in `match`.
        thresholds: As in `match`.
        ambiguous: Label of ambiguous segments, which belong to no class; None if there are none.
        videos: As in `match`; None for the videos with ground truth, including ambiguous segments.
    """
    levels = check_thresholds(thresholds)
    check_table(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    is_ambiguous = (ground_truth["label"] == ambiguous).to_numpy()
    # Videos with ambiguous segments only are test videos, too.
    videos = list(ground_truth["video"].unique()) if videos is None else videos
    data = encode(detections, ground_truth[~is_ambiguous], videos)
    det, truth, tiou = candidate_pairs(data)
    order = np.lexsort((det, -tiou, truth))
    det, truth, tiou = det[order], truth[order], tiou[order]

    n_det, n_gt = len(data.video), len(data.gt_video)
    true_positive = np.zeros((len(levels), n_det), dtype=bool)
    gt_detection = np.full((len(levels), n_gt), -1, dtype=np.int64)
    for level, threshold in enumerate(levels):
        reached = tiou > threshold
        holder = assign_in_order(truth[reached], det[reached], n_gt, n_det)
        matched = np.flatnonzero(holder < n_gt)
        true_positive[level, matched] = True
        gt_detection[level, holder[matched]] = matched
    ignored = None
    if is_ambiguous.any():
        ignored = _overlaps_ambiguous(data, ground_truth[is_ambiguous])[None] & ~true_positive
    return build_matches(
        data,
        thresholds=levels,
        true_positive=true_positive,
        ignored=ignored,
        gt_detection=gt_detection,
        ap_method="thumos",
    )


def _overlaps_ambiguous(data: EncodedTables, ambiguous: pd.DataFrame) -> Bools:
    """Return whether each detection overlaps an ambiguous segment of its video `[N]`."""
    overlaps = np.zeros(len(data.video), dtype=bool)
    index = {name: k for k, name in enumerate(data.videos)}
    for video, start, end in zip(ambiguous["video"], ambiguous["start"], ambiguous["end"], strict=True):
        detections = np.flatnonzero(data.video == index[video])
        segment = np.array([[start, end]], dtype=np.float64)
        overlaps[detections] |= segment_tiou(data.segment[detections], segment) > 0
    return overlaps


def ap_from_matches(matches: Matches, video_weights: Floats | Ints | None = None) -> Floats:
    """Compute average precision per threshold and class, with optional weights of videos.

    An integer weight w gives exactly the interpolated AP of a test set that contains the video w times.

    Args:
        matches: Result of `match` or `thumos_match`.
        video_weights: Non-negative weights `[V]`, or `[D, V]` with one row per bootstrap draw; None to count
            every video once. Detections in videos outside `matches.videos` always count once.

    Returns:
        Average precision `[T, K]`, or `[D, T, K]` for weights `[D, V]`; NaN for classes whose ground truth
        has zero weight.

    Raises:
        InputError: The weights have another shape or are negative.
    """
    n_video = len(matches.videos)
    weights = np.ones((1, n_video)) if video_weights is None else np.asarray(video_weights, dtype=np.float64)
    if weights.ndim not in (1, 2) or weights.shape[-1] != n_video or (weights < 0).any():
        raise InputError(
            f"video weights of shape {weights.shape}",
            where="video_weights",
            hint=f"give non-negative weights [{n_video}] or [D, {n_video}]",
        )
    single = video_weights is None or weights.ndim == 1
    weights = np.atleast_2d(weights)
    # The additional column of ones is for detections outside the test videos (index −1).
    weights = np.concatenate([weights, np.ones((len(weights), 1))], axis=1)
    ap = np.empty((len(weights), len(matches.thresholds), len(matches.classes)))
    edges = np.searchsorted(matches.label, np.arange(len(matches.classes) + 1))
    for k in range(len(matches.classes)):
        part = slice(int(edges[k]), int(edges[k + 1]))
        gt_video = matches.gt_video[matches.gt_label == k]
        step = max(1, _CHUNK_SIZE // max(part.stop - part.start, 1))
        for low in range(0, len(weights), step):
            draws = slice(low, low + step)
            ap[draws, :, k] = _class_ap(matches, part, gt_video, weights[draws])
    return ap[0] if single else ap


def _class_ap(matches: Matches, part: slice, gt_video: Ints, weights: Floats) -> Floats:
    """Compute the average precision `[D, T]` of the class with detections `part` for weights `[D, V + 1]`."""
    video = matches.video[part]
    # Float sums of integers below 2^53 are exact, so every count below is exact.
    positives = weights[:, gt_video].sum(axis=1)
    ap = np.full((len(weights), len(matches.thresholds)), np.nan)
    present = positives > 0
    # Precision has its local maxima at true positives, so it is evaluated only there.
    at = np.flatnonzero(matches.true_positive[:, part].any(axis=0))
    each, seen = weights[:, video[at]], _count_until(at, video, weights)
    for level, true_positive in enumerate(matches.true_positive[:, part]):
        found_here = np.flatnonzero(true_positive[at])
        gain, counted = each[:, found_here], seen[:, found_here]
        if matches.ignored is not None:
            ignored = matches.ignored[level, part]
            counted = counted - _count_until(at[found_here], video, weights, ignored)
        found = np.cumsum(gain, axis=1)
        precision = np.divide(found, counted, out=np.zeros_like(found), where=counted > 0)
        if matches.ap_method == "activitynet":
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        area = (precision * gain).sum(axis=1)
        ap[present, level] = area[present] / positives[present]
    return ap


def _count_until(at: Ints, video: Ints, weights: Floats, which: Bools | None = None) -> Floats:
    """Sum the weights of the videos of all detections up to each of some positions, which ascend `[D, A]`.

    Detections between two positions are counted per video first, so that each draw adds counts of videos.

    Args:
        at: Positions in the order of the detections `[A]`.
        video: Index of the video of each detection `[N]`, −1 for the last weight.
        weights: Weights of the videos `[D, V + 1]`.
        which: Detections that are counted `[N]`; None for all.
    """
    from scipy.sparse import csr_array

    counted = np.arange(len(video)) if which is None else np.flatnonzero(which)
    interval = np.searchsorted(at, counted)
    counted, interval = counted[interval < len(at)], interval[interval < len(at)]
    shape = (len(at), weights.shape[1])
    counts = csr_array((np.ones(len(counted)), (interval, video[counted] % shape[1])), shape=shape)
    return np.asarray(np.cumsum(counts @ weights.T, axis=0).T)
