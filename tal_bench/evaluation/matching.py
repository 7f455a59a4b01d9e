"""Match detections to ground truth.

Matching takes most of the time of a detection metric. It is done within each video and class, so its result
can be re-weighted: a bootstrap over videos matches only once (see `significance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tal_bench.errors import InputError

DETECTION_COLUMNS = ("video", "start", "end", "label", "score")
GROUND_TRUTH_COLUMNS = ("video", "start", "end", "label")
MIN_LENGTH = 1e-3
"""Minimum length of a ground truth in seconds; duplicates differ by at most this at both ends."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
APMethod = Literal["activitynet", "thumos"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of one run matched to ground truth, at every tIoU threshold.

    Detections are ordered by class, then by descending score (later rows first among equal scores).

    Attributes:
        thresholds: tIoU thresholds `[T]`.
        classes: The `K` labels of the ground truth, sorted.
        videos: The `V` test videos, sorted.
        video: Index into `videos` per detection `[N]`, −1 for a video outside them (a false positive).
        label: Index into `classes` per detection `[N]`.
        score: Score per detection `[N]`.
        row: Position of the detection in its table `[N]`.
        true_positive: Whether the detection is a true positive `[T, N]`.
        ignored: Whether the detection is neither a true nor a false positive (ambiguous segments) `[T, N]`,
            or None.
        gt_video: Index into `videos` per ground truth `[G]`.
        gt_label: Index into `classes` per ground truth `[G]`.
        gt_detection: Index of the detection matched to each ground truth `[T, G]`, −1 for none.
        ap_method: Method by which average precision is computed from the matches.
    """

    thresholds: Floats
    classes: tuple[Any, ...]
    videos: tuple[Any, ...]
    video: Ints
    label: Ints
    score: Floats
    row: Ints
    true_positive: Bools
    ignored: Bools | None
    gt_video: Ints
    gt_label: Ints
    gt_detection: Ints
    ap_method: APMethod


@dataclass(frozen=True, eq=False)
class EncodedTables:
    """Detections and ground truth as arrays, with videos and labels replaced by indices."""

    classes: tuple[Any, ...]
    videos: tuple[Any, ...]
    video: Ints
    label: Ints
    score: Floats
    segment: Floats
    row: Ints
    gt_video: Ints
    gt_label: Ints
    gt_segment: Floats


def match(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    *,
    videos: Sequence[Any] | None = None,
) -> Matches:
    """Match detections to ground truth as the ActivityNet evaluation does.

    In order of descending score, each detection is matched to the unmatched ground truth of its video and
    class with the largest tIoU, if this is at least the threshold (the later ground truth among equal tIoU).
    Detections whose label has no ground truth are dropped.

    Args:
        detections: Table with columns video, start, end, label, score; times in seconds.
        ground_truth: Table with columns video, start, end, label.
        thresholds: tIoU thresholds `[T]`, each in (0, 1].
        videos: All test videos, including those without ground truth; None for those with ground truth.

    Raises:
        InputError: A column is missing, a number is not finite, a threshold is outside (0, 1], or there is
            no ground truth.
    """
    levels = check_thresholds(thresholds)
    data = encode(detections, clean_ground_truth(ground_truth), videos)
    det, truth, tiou = candidate_pairs(data)
    keep = tiou >= levels.min()
    det, truth, tiou = det[keep], truth[keep], tiou[keep]
    order = np.lexsort((-truth, -tiou, det))
    det, truth, tiou = det[order], truth[order], tiou[order]

    n_det, n_gt = len(data.video), len(data.gt_video)
    true_positive = np.zeros((len(levels), n_det), dtype=bool)
    gt_detection = np.full((len(levels), n_gt), -1, dtype=np.int64)
    for level, threshold in enumerate(levels):
        reached = tiou >= threshold
        holder = assign_in_order(det[reached], truth[reached], n_det, n_gt)
        matched = holder < n_det
        true_positive[level, holder[matched]] = True
        gt_detection[level, matched] = holder[matched]
    return build_matches(
        data,
        thresholds=levels,
        true_positive=true_positive,
        ignored=None,
        gt_detection=gt_detection,
        ap_method="activitynet",
    )


def build_matches(
    data: EncodedTables,
    *,
    thresholds: Floats,
    true_positive: Bools,
    ignored: Bools | None,
    gt_detection: Ints,
    ap_method: APMethod,
) -> Matches:
    """Build `Matches` from encoded tables and the result of a matching."""
    return Matches(
        thresholds=thresholds,
        classes=data.classes,
        videos=data.videos,
        video=data.video,
        label=data.label,
        score=data.score,
        row=data.row,
        true_positive=true_positive,
        ignored=ignored,
        gt_video=data.gt_video,
        gt_label=data.gt_label,
        gt_detection=gt_detection,
        ap_method=ap_method,
    )


def assign_in_order(chooser: Ints, option: Ints, n_choosers: int, n_options: int) -> Ints:
    """Assign to choosers 0, 1, 2 … in turn the first free option of their lists, vectorised.

    The result of taking turns is the stable matching in which every option prefers the earlier chooser. It is
    computed by deferred acceptance (Gale & Shapley, 1962): every chooser without an option proposes to the
    next on its list, and each option keeps the earliest chooser. The number of rounds is bounded by the
    length of the longest list, not by the number of choosers, which avoids a Python loop over choosers.

    Args:
        chooser: Index of the chooser, ascending `[P]`; equal values form one list.
        option: Index of the option, in the chooser's order of preference `[P]`.
        n_choosers: Number of choosers.
        n_options: Number of options.

    Returns:
        Chooser that holds each option `[n_options]`; `n_choosers` for unassigned options.
    """
    holder = np.full(n_options, n_choosers, dtype=np.int64)
    count = np.bincount(chooser, minlength=n_choosers)
    end = np.cumsum(count)
    position = end - count
    proposing = np.flatnonzero(count)
    while proposing.size:
        proposed = option[position[proposing]]
        before = holder[proposed]
        np.minimum.at(holder, proposed, proposing)
        after = holder[proposed]
        refused = proposing[after != proposing]
        displaced = np.unique(before[(before != after) & (before < n_choosers)])
        unassigned = np.concatenate([refused, displaced])
        position[unassigned] += 1
        proposing = unassigned[position[unassigned] < end[unassigned]]
    return holder


def candidate_pairs(data: EncodedTables) -> tuple[Ints, Ints, Floats]:
    """Return all pairs of a detection and a ground truth of the same video and class.

    Returns:
        Index of the detection, index of the ground truth and tIoU, each `[P]`; ascending by detection.
    """
    n_class = len(data.classes)
    gt_key = data.gt_video * n_class + data.gt_label
    by_key = np.argsort(gt_key, kind="stable")
    count = np.bincount(gt_key, minlength=len(data.videos) * n_class)
    first = np.cumsum(count) - count

    known = np.flatnonzero(data.video >= 0)
    key = data.video[known] * n_class + data.label[known]
    size = count[key]
    det = np.repeat(known, size)
    offset = np.arange(len(det)) - np.repeat(np.cumsum(size) - size, size)
    truth = by_key[np.repeat(first[key], size) + offset]
    return det, truth, segment_tiou(data.segment[det], data.gt_segment[truth])


def segment_tiou(a: Floats, b: Floats) -> Floats:
    """Compute the temporal intersection over union of paired segments `[P, 2]`; 0 if the union is empty."""
    inter = np.maximum(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0.0)
    union = (b[:, 1] - b[:, 0]) + (a[:, 1] - a[:, 0]) - inter
    tiou: Floats = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return tiou


def encode(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, videos: Sequence[Any] | None = None
) -> EncodedTables:
    """Replace videos and labels by indices; order detections by class, then by descending score.

    Raises:
        InputError: As in `match`.
    """
    check_table(detections, DETECTION_COLUMNS, "detections")
    check_table(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    if len(ground_truth) == 0:
        raise InputError("there is no ground truth", where="ground truth", hint="check the subset and videos")
    gt_label, classes = pd.factorize(ground_truth["label"], sort=True)
    names = pd.Index(ground_truth["video"] if videos is None else list(videos)).unique().sort_values()
    gt_video = names.get_indexer(pd.Index(ground_truth["video"]))
    if (gt_video < 0).any():
        unknown = ground_truth["video"].iloc[int(np.argmax(gt_video < 0))]
        raise InputError(
            f"video {unknown!r} has ground truth but is not among the test videos", where="videos"
        )

    class_index = pd.Index(classes)
    label = class_index.get_indexer(pd.Index(detections["label"]))
    row = np.flatnonzero(label >= 0)
    score = detections["score"].to_numpy(dtype=np.float64)
    # Reversing a stable ascending sort puts later rows first among equal scores.
    row = row[np.lexsort((score[row], -label[row]))[::-1]]
    return EncodedTables(
        classes=tuple(class_index.tolist()),
        videos=tuple(names.tolist()),
        video=names.get_indexer(pd.Index(detections["video"]))[row].astype(np.int64),
        label=label[row].astype(np.int64),
        score=score[row],
        segment=detections[["start", "end"]].to_numpy(dtype=np.float64)[row],
        row=row.astype(np.int64),
        gt_video=gt_video.astype(np.int64),
        gt_label=gt_label.astype(np.int64),
        gt_segment=ground_truth[["start", "end"]].to_numpy(dtype=np.float64),
    )


def clean_ground_truth(ground_truth: pd.DataFrame) -> pd.DataFrame:
    """Drop segments shorter than 1e-3 s and duplicates (same video and label, both ends within 1e-3 s)."""
    check_table(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    start = ground_truth["start"].to_numpy(dtype=np.float64)
    end = ground_truth["end"].to_numpy(dtype=np.float64)
    keep = end - start >= MIN_LENGTH
    video, label = (pd.factorize(ground_truth[column])[0] for column in ("video", "label"))
    group = video * (label.max(initial=0) + 1) + label
    order = np.lexsort((start, group))
    near = (np.diff(group[order]) == 0) & (np.abs(np.diff(start[order])) <= MIN_LENGTH)
    for candidate in np.unique(group[order[1:]][near]):
        kept: list[int] = []
        for row in np.flatnonzero((group == candidate) & keep):
            duplicates = (
                abs(start[row] - start[k]) <= MIN_LENGTH and abs(end[row] - end[k]) <= MIN_LENGTH
                for k in kept
            )
            if any(duplicates):
                keep[row] = False
            else:
                kept.append(int(row))
    return ground_truth if keep.all() else ground_truth[keep]


def check_thresholds(thresholds: Sequence[float] | Floats) -> Floats:
    """Return thresholds as an array; raise InputError if there is none or one is outside (0, 1]."""
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if levels.ndim != 1 or levels.size == 0 or not ((levels > 0) & (levels <= 1)).all():
        raise InputError(f"tIoU thresholds {levels.tolist()}", where="tiou", hint="give numbers in (0, 1]")
    return levels


def check_table(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """Raise InputError if `table` lacks a column or has a time or score that is not finite."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"columns {', '.join(missing)} are missing", where=name, hint=f"required: {', '.join(columns)}"
        )
    for column in ("start", "end", "score"):
        if column not in columns:
            continue
        finite = np.isfinite(table[column].to_numpy(dtype=np.float64))
        if not finite.all():
            row = int(np.argmin(finite))
            raise InputError(f"{column} is {table[column].iloc[row]} in row {row}", where=name)
