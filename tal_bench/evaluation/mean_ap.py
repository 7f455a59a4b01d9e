"""Mean average precision: ActivityNet-style interpolated, and the original THUMOS'14 protocol."""

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
    Encoded,
    Floats,
    Ints,
    Matches,
    check_table,
    check_thresholds,
    choose_in_turn,
    encode,
    match,
    matches_of,
    pairs,
    segment_tiou,
)

__all__ = [
    "Matches",
    "MeanAP",
    "ap_from_matches",
    "interpolated_ap",
    "match",
    "thumos_ap",
    "thumos_match",
    "written",
]

_CELLS = 2_000_000  # weights held at a time: 16 MB keeps the working set of a bootstrap near the cache


@dataclass(frozen=True, eq=False)
class MeanAP:
    """Average precision per tIoU threshold and class.

    Attributes:
        thresholds: tIoU thresholds `[T]`.
        classes: the `K` labels of the ground truth, sorted.
        ap: average precision `[T, K]`, 0 … 1.
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
        """`ap_method`, `map`, `average_map` and `per_class`; thresholds as `written`."""
        keys = [written(threshold) for threshold in self.thresholds]
        return {
            "ap_method": self.ap_method,
            "map": dict(zip(keys, self.map.tolist(), strict=True)),
            "average_map": self.average,
            "per_class": {
                str(label): dict(zip(keys, self.ap[:, k].tolist(), strict=True))
                for k, label in enumerate(self.classes)
            },
        }


def written(threshold: float) -> str:
    """A tIoU threshold with two decimals, more only where two do not tell it: 0.50, 0.125."""
    two = f"{threshold:.2f}"
    return two if abs(float(two) - threshold) < 1e-9 else f"{threshold:.6f}".rstrip("0")


def interpolated_ap(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    *,
    videos: Sequence[Any] | None = None,
) -> MeanAP:
    """Average precision as the ActivityNet evaluation computes it (all-point interpolation, VOC 2011).

    Classes are those of the ground truth; one without detections counts 0. Arguments and errors as `match`.
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
    """Average precision of the original THUMOS'14 development kit; arguments and errors as `thumos_match`."""
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
    """Match as the THUMOS'14 development kit does: each ground truth in turn takes its best detection.

    A ground truth takes the free detection of its video and class with the largest tIoU > threshold, whatever
    its score. Detections left over that touch an ambiguous segment of their video are ignored. Nothing is
    dropped from the ground truth.

    Args:
        detections: as `match`.
        ground_truth: as `match`.
        thresholds: as `match`.
        ambiguous: the label of ground truths that are no class, or None if there are none.
        videos: as `match`; None = those with ground truth, be it ambiguous.
    """
    levels = check_thresholds(thresholds)
    check_table(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    unclear = (ground_truth["label"] == ambiguous).to_numpy()
    # A video that holds nothing but ambiguous parts is a test video all the same.
    videos = list(ground_truth["video"].unique()) if videos is None else videos
    data = encode(detections, ground_truth[~unclear], videos)
    det, truth, tiou = pairs(data)
    order = np.lexsort((det, -tiou, truth))
    det, truth, tiou = det[order], truth[order], tiou[order]

    n_det, n_gt = len(data.video), len(data.gt_video)
    true_positive = np.zeros((len(levels), n_det), dtype=bool)
    gt_detection = np.full((len(levels), n_gt), -1, dtype=np.int64)
    for level, threshold in enumerate(levels):
        enough = tiou > threshold
        holder = choose_in_turn(truth[enough], det[enough], n_gt, n_det)
        found = np.flatnonzero(holder < n_gt)
        true_positive[level, found] = True
        gt_detection[level, holder[found]] = found
    ignored = None
    if unclear.any():
        ignored = _touching(data, ground_truth[unclear])[None] & ~true_positive
    return matches_of(
        data,
        thresholds=levels,
        true_positive=true_positive,
        ignored=ignored,
        gt_detection=gt_detection,
        ap_method="thumos",
    )


def _touching(data: Encoded, unclear: pd.DataFrame) -> Bools:
    """Which detections overlap an ambiguous segment of their video `[N]`."""
    touching = np.zeros(len(data.video), dtype=bool)
    index = {name: k for k, name in enumerate(data.videos)}
    for video, start, end in zip(unclear["video"], unclear["start"], unclear["end"], strict=True):
        here = np.flatnonzero(data.video == index[video])
        segment = np.array([[start, end]], dtype=np.float64)
        touching[here] |= segment_tiou(data.segment[here], segment) > 0
    return touching


def ap_from_matches(matches: Matches, video_weights: Floats | Ints | None = None) -> Floats:
    """Average precision per threshold and class, each video counted as often as its weight says.

    An integer weight w gives exactly the interpolated AP of a test set that holds the video w times.

    Args:
        matches: from `match` or `thumos_match`.
        video_weights: `[V]` or `[D, V]` (one row per bootstrap draw), ≥ 0; None = every video once.
            Detections in videos outside `matches.videos` always count once.

    Returns:
        `[T, K]`, or `[D, T, K]` for weights `[D, V]`. A class whose ground truth has no weight is NaN.

    Raises:
        InputError: weights of another shape, or negative.
    """
    n_video = len(matches.videos)
    weights = np.ones((1, n_video)) if video_weights is None else np.asarray(video_weights, dtype=np.float64)
    if weights.ndim not in (1, 2) or weights.shape[-1] != n_video or (weights < 0).any():
        raise InputError(
            f"video weights of shape {weights.shape}", where="video_weights", hint=f"need [D, {n_video}], ≥ 0"
        )
    single = video_weights is None or weights.ndim == 1
    weights = np.atleast_2d(weights)
    # One more column, always 1, for detections outside the test videos (index −1).
    weights = np.concatenate([weights, np.ones((len(weights), 1))], axis=1)
    ap = np.empty((len(weights), len(matches.thresholds), len(matches.classes)))
    edges = np.searchsorted(matches.label, np.arange(len(matches.classes) + 1))
    for k in range(len(matches.classes)):
        part = slice(int(edges[k]), int(edges[k + 1]))
        gt_video = matches.gt_video[matches.gt_label == k]
        step = max(1, _CELLS // max(part.stop - part.start, 1))
        for low in range(0, len(weights), step):
            draws = slice(low, low + step)
            ap[draws, :, k] = _class_ap(matches, part, gt_video, weights[draws])
    return ap[0] if single else ap


def _class_ap(matches: Matches, part: slice, gt_video: Ints, weights: Floats) -> Floats:
    """Average precision `[D, T]` of the class whose detections are `part`, under weights `[D, V + 1]`."""
    each = weights[:, matches.video[part]]
    # Whole numbers up to 2^53 add exactly, so every count below is exact.
    seen = np.cumsum(each, axis=1)
    positives = weights[:, gt_video].sum(axis=1)
    ap = np.full((len(weights), len(matches.thresholds)), np.nan)
    present = positives > 0
    for level, true_positive in enumerate(matches.true_positive[:, part]):
        # Precision is highest right at a true positive, so the curve is needed there and nowhere else.
        at = np.flatnonzero(true_positive)
        gain = each[:, at]
        counted = seen[:, at]
        if matches.ignored is not None:
            counted = counted - np.cumsum(each * matches.ignored[level, part], axis=1)[:, at]
        found = np.cumsum(gain, axis=1)
        precision = np.divide(found, counted, out=np.zeros_like(found), where=counted > 0)
        if matches.ap_method == "activitynet":
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        area = (precision * gain).sum(axis=1)
        ap[present, level] = area[present] / positives[present]
    return ap
