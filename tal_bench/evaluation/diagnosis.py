"""Classify detections by type of error and measure the mAP lost to each type.

The analysis follows DETAD (Alwassel et al., ECCV 2018). True positives are those of the matching used for
mAP. Every other detection is classified by the ground truth of any class in its video that it overlaps most:

    tIoU with it      same class          another class
    ≥ threshold       double detection    wrong label
    ≥ 0.1             localization        confusion
    less              background          background

The six categories partition the evaluated detections at every threshold. All ground truths that a double
detection reaches are matched to detections of higher score, or it would be a true positive. If ground truths
of several classes have the same tIoU, the detection's own class takes precedence (in DETAD, the order in the
file decides).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tal_bench.evaluation.matching import (
    Bools,
    EncodedTables,
    Floats,
    Ints,
    Matches,
    clean_ground_truth,
    encode,
    match,
    segment_tiou,
)
from tal_bench.evaluation.mean_ap import ap_from_matches

TRUE_POSITIVE, DOUBLE, WRONG_LABEL, LOCALIZATION, CONFUSION, BACKGROUND = range(6)
CATEGORIES = (
    "true positive",
    "double detection",
    "wrong label",
    "localization",
    "confusion",
    "background",
)
ERRORS = CATEGORIES[1:]
MIN_TIOU = 0.1
"""Smallest tIoU at which a detection is attributed to a ground truth."""
PROFILE_SLICES = 10
"""Default number of slices of the false-positive profile, each as large as the number of ground truths."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Detections of a run with their categories.

    Attributes:
        matches: Result of the matching; `N` detections ordered by class, then by descending score.
        category: Index into `CATEGORIES` per threshold and detection `[T, N]`.
        segment: Start and end of each detection in seconds `[N, 2]`.
        truth: Ground truth after `clean_ground_truth`; its `G` rows are those of `matches`.
    """

    matches: Matches
    category: NDArray[np.int8]
    segment: Floats
    truth: pd.DataFrame

    @property
    def counts(self) -> Ints:
        """Number of detections per threshold and category `[T, 6]`; each row sums to N."""
        return np.stack([np.bincount(row, minlength=len(CATEGORIES)) for row in self.category])


@dataclass(frozen=True)
class Gains:
    """Average mAP and its gains when errors are removed, each in 0 … 1.

    `average_map + all_errors + missed` is 1: without false positives, the average precision of a class equals
    its recall. The gains of single errors do not add up to `all_errors`, because each is measured while the
    other errors are still present.

    Attributes:
        average_map: Average mAP of all detections.
        errors: Gain per type in `ERRORS` when its detections are removed.
        all_errors: Gain when all false positives are removed.
        missed: Share of ground truths that no detection finds, mean over classes and thresholds.
    """

    average_map: float
    errors: dict[str, float]
    all_errors: float
    missed: float


def diagnose(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    *,
    videos: Sequence[Any] | None = None,
) -> Diagnosis:
    """Match detections to ground truth and classify them; arguments and errors as in `matching.match`.

    Detections whose label has no ground truth are dropped. Detections in videos outside `videos` are
    background.
    """
    matches = match(detections, ground_truth, thresholds, videos=videos)
    truth = clean_ground_truth(ground_truth)
    data = encode(detections, truth, videos)  # same order of detections as in `matches`
    largest_tiou, same_class = _largest_tiou(data)
    threshold = matches.thresholds[:, None]
    category = np.where(
        matches.true_positive,
        TRUE_POSITIVE,
        np.where(
            largest_tiou >= threshold,
            np.where(same_class, DOUBLE, WRONG_LABEL),
            np.where(largest_tiou >= MIN_TIOU, np.where(same_class, LOCALIZATION, CONFUSION), BACKGROUND),
        ),
    )
    return Diagnosis(matches, category.astype(np.int8), data.segment, truth)


def _largest_tiou(data: EncodedTables) -> tuple[Floats, Bools]:
    """Return the largest tIoU of each detection with any ground truth of its video `[N]`.

    The second array `[N]` says whether a ground truth of the detection's own class has this tIoU.
    """
    largest = np.zeros(len(data.video))
    same_class = np.zeros(len(data.video), dtype=bool)
    for video in np.unique(data.gt_video):
        detections = np.flatnonzero(data.video == video)
        truths = np.flatnonzero(data.gt_video == video)
        pair_det, pair_truth = np.repeat(detections, len(truths)), np.tile(truths, len(detections))
        shape = (len(detections), len(truths))
        tiou = segment_tiou(data.segment[pair_det], data.gt_segment[pair_truth]).reshape(shape)
        same = (data.label[pair_det] == data.gt_label[pair_truth]).reshape(shape)
        largest[detections] = tiou.max(axis=1)
        same_class[detections] = np.where(same, tiou, -1.0).max(axis=1) >= largest[detections]
    return largest, same_class


def false_positive_profile(diagnosis: Diagnosis, slices: int = PROFILE_SLICES) -> Ints:
    """Count categories among the best G detections of each class, the next G, and so on.

    For a class with G_j ground truths, slice k holds the detections of rank k · G_j to (k + 1) · G_j, so that
    frequent classes do not dominate.

    Returns:
        Number of detections per slice, threshold and category `[slices, T, 6]`.
    """
    matches = diagnosis.matches
    edges = np.searchsorted(matches.label, np.arange(len(matches.classes)))
    rank = np.arange(len(matches.label)) - edges[matches.label]
    truths = np.bincount(matches.gt_label, minlength=len(matches.classes))
    slice_index = rank // truths[matches.label]
    kept = slice_index < slices
    cells = slice_index[kept] * len(CATEGORIES) + diagnosis.category[:, kept]
    size = slices * len(CATEGORIES)
    table = np.stack([np.bincount(row, minlength=size) for row in cells])
    return table.reshape(len(matches.thresholds), slices, -1).swapaxes(0, 1)


def gains(diagnosis: Diagnosis) -> Gains:
    """Compute the average mAP gained by removing the detections of each type of error.

    DETAD uses the best 10 · G detections and normalised precision. Here the gain is in the average mAP of
    the tables, over all detections, so that the two can be compared.
    """

    def average(ignored: Bools) -> float:
        # False positives are matched to no ground truth, so ignoring them does not change the matching.
        return float(np.nanmean(ap_from_matches(replace(diagnosis.matches, ignored=ignored))))

    category = diagnosis.category
    base = average(np.zeros(category.shape, dtype=bool))
    recall = average(category != TRUE_POSITIVE)
    return Gains(
        average_map=base,
        errors={name: average(category == k) - base for k, name in enumerate(ERRORS, start=1)},
        all_errors=recall - base,
        missed=1.0 - recall,
    )


def video_ap(matches: Matches) -> Floats:
    """Compute the average precision of each video `[T, V]`; NaN for videos without ground truth.

    Matching is per class, but all classes of a video share one ranking, so that false positives of classes
    that are absent from the video count.
    """
    inside = np.flatnonzero(matches.video >= 0)
    order = inside[np.lexsort((-matches.score[inside], matches.video[inside]))]
    regrouped = replace(
        matches,
        classes=matches.videos,
        video=matches.video[order],
        label=matches.video[order],
        score=matches.score[order],
        row=matches.row[order],
        true_positive=matches.true_positive[:, order],
        ignored=None,
        gt_label=matches.gt_video,
    )
    return ap_from_matches(regrouped)
