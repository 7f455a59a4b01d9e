"""Which detection finds which ground truth: the part of every detection metric that costs time.

Matching happens inside a video and a class, so its result can be kept and re-weighted: a bootstrap over
videos never matches again (see `significance`).
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
"""Seconds: shorter ground truths are dropped, and two of one label closer than this at both ends are one."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
APMethod = Literal["activitynet", "thumos"]


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of one run matched to ground truth, at every tIoU threshold.

    Detections are ordered by class, then by falling score (of equal scores the later row first).

    Attributes:
        thresholds: tIoU thresholds `[T]`.
        classes: labels that occur in the ground truth, sorted; `K` of them.
        videos: the test videos, sorted; `V` of them.
        video: index into `videos` per detection `[N]`, −1 for a video outside them (a false positive).
        label: index into `classes` per detection `[N]`.
        score: per detection `[N]`.
        row: position of the detection in the table it came from `[N]`.
        true_positive: `[T, N]`.
        ignored: `[T, N]`, detections that count neither way (ambiguous parts), or None.
        gt_video, gt_label: index per ground truth `[G]`.
        gt_detection: `[T, G]`, which detection (index into `[N]`) found it, −1 for none.
        ap_method: how average precision is computed from it.
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
class Encoded:
    """Detections and ground truth as arrays of indices, both grouped for a join on (video, class)."""

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
    """Match as the ActivityNet evaluation does: by falling score, each detection takes its best free truth.

    A detection takes the free ground truth of its video and class with the largest tIoU, provided tIoU ≥
    threshold; of equal tIoU the later ground truth. Detections whose label has no ground truth are dropped.

    Args:
        detections: columns video, start, end, label, score; times in seconds.
        ground_truth: columns video, start, end, label.
        thresholds: tIoU thresholds `[T]`, each in (0, 1].
        videos: every test video, also those without ground truth; None = those with ground truth.

    Raises:
        InputError: a column is missing, a number is not finite, a threshold is outside (0, 1], or there is
            no ground truth.
    """
    levels = check_thresholds(thresholds)
    data = encode(detections, clean_ground_truth(ground_truth), videos)
    det, truth, tiou = pairs(data)
    keep = tiou >= levels.min()
    det, truth, tiou = det[keep], truth[keep], tiou[keep]
    order = np.lexsort((-truth, -tiou, det))
    det, truth, tiou = det[order], truth[order], tiou[order]

    n_det, n_gt = len(data.video), len(data.gt_video)
    true_positive = np.zeros((len(levels), n_det), dtype=bool)
    gt_detection = np.full((len(levels), n_gt), -1, dtype=np.int64)
    for level, threshold in enumerate(levels):
        enough = tiou >= threshold
        holder = choose_in_turn(det[enough], truth[enough], n_det, n_gt)
        found = holder < n_det
        true_positive[level, holder[found]] = True
        gt_detection[level, found] = holder[found]
    return matches_of(
        data,
        thresholds=levels,
        true_positive=true_positive,
        ignored=None,
        gt_detection=gt_detection,
        ap_method="activitynet",
    )


def matches_of(
    data: Encoded,
    *,
    thresholds: Floats,
    true_positive: Bools,
    ignored: Bools | None,
    gt_detection: Ints,
    ap_method: APMethod,
) -> Matches:
    """Put encoded tables and the outcome of a matching together."""
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


def choose_in_turn(chooser: Ints, option: Ints, n_choosers: int, n_options: int) -> Ints:
    """Let choosers 0, 1, 2 … each take the first free option on its list, all at once.

    A plain loop over choosers is slow in Python. The outcome of taking turns is the stable matching in which
    every option prefers the earlier chooser, and that is reached by rounds of proposals (Gale & Shapley
    1962): everyone without an option proposes to the next on its list, and each option keeps the earliest.
    The rounds are as many as the longest list, not as many as there are choosers.

    Args:
        chooser: who, ascending `[P]`; equal numbers form one list.
        option: what, in the chooser's order of preference `[P]`.
        n_choosers: number of choosers; also the mark of an option that nobody took.
        n_options: number of options.

    Returns:
        The chooser that holds each option `[n_options]`, `n_choosers` where none does.
    """
    holder = np.full(n_options, n_choosers, dtype=np.int64)
    count = np.bincount(chooser, minlength=n_choosers)
    end = np.cumsum(count)
    place = end - count
    proposing = np.flatnonzero(count)
    while proposing.size:
        wanted = option[place[proposing]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, proposing)
        after = holder[wanted]
        refused = proposing[after != proposing]
        displaced = np.unique(before[(before != after) & (before < n_choosers)])
        losing = np.concatenate([refused, displaced])
        place[losing] += 1
        proposing = losing[place[losing] < end[losing]]
    return holder


def pairs(data: Encoded) -> tuple[Ints, Ints, Floats]:
    """Every (detection, ground truth) of the same video and class, with its tIoU.

    Returns:
        Indices of the detection and of the ground truth, and tIoU, each `[P]`; ascending by detection.
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
    """Temporal intersection over union of paired segments `[P, 2]`; 0 where the union is empty."""
    inter = np.maximum(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0.0)
    union = (b[:, 1] - b[:, 0]) + (a[:, 1] - a[:, 0]) - inter
    tiou: Floats = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return tiou


def encode(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, videos: Sequence[Any] | None = None
) -> Encoded:
    """Replace videos and labels by indices; order detections by class, then by falling score.

    Raises:
        InputError: as `match`.
    """
    check_table(detections, DETECTION_COLUMNS, "detections")
    check_table(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    if len(ground_truth) == 0:
        raise InputError("there is no ground truth", where="ground truth", hint="check the subset and videos")
    gt_label, classes = pd.factorize(ground_truth["label"], sort=True)
    names = pd.Index(ground_truth["video"] if videos is None else list(videos)).unique().sort_values()
    gt_video = names.get_indexer(pd.Index(ground_truth["video"]))
    if (gt_video < 0).any():
        stray = ground_truth["video"].iloc[int(np.argmax(gt_video < 0))]
        raise InputError(f"video {stray!r} has ground truth but is not among the test videos", where="videos")

    class_index = pd.Index(classes)
    label = class_index.get_indexer(pd.Index(detections["label"]))
    row = np.flatnonzero(label >= 0)
    score = detections["score"].to_numpy(dtype=np.float64)
    # A stable rising sort read backwards: of equal scores the later row comes first.
    row = row[np.lexsort((score[row], -label[row]))[::-1]]
    return Encoded(
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
    """Drop segments shorter than 1e-3 s and repeats of a segment already kept (both ends within 1e-3 s)."""
    check_table(ground_truth, GROUND_TRUTH_COLUMNS, "ground truth")
    start = ground_truth["start"].to_numpy(dtype=np.float64)
    end = ground_truth["end"].to_numpy(dtype=np.float64)
    keep = end - start >= MIN_LENGTH
    video, label = (pd.factorize(ground_truth[column])[0] for column in ("video", "label"))
    group = video * (label.max(initial=0) + 1) + label
    order = np.lexsort((start, group))
    near = (np.diff(group[order]) == 0) & (np.abs(np.diff(start[order])) <= MIN_LENGTH)
    for suspect in np.unique(group[order[1:]][near]):
        kept: list[int] = []
        for row in np.flatnonzero((group == suspect) & keep):
            twins = (
                abs(start[row] - start[k]) <= MIN_LENGTH and abs(end[row] - end[k]) <= MIN_LENGTH
                for k in kept
            )
            if any(twins):
                keep[row] = False
            else:
                kept.append(int(row))
    return ground_truth if keep.all() else ground_truth[keep]


def check_thresholds(thresholds: Sequence[float] | Floats) -> Floats:
    """Thresholds as an array; InputError unless there is at least one and each is in (0, 1]."""
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if levels.ndim != 1 or levels.size == 0 or not ((levels > 0) & (levels <= 1)).all():
        raise InputError(f"tIoU thresholds {levels.tolist()}", where="tiou", hint="give numbers in (0, 1]")
    return levels


def check_table(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    """InputError unless `table` has the columns and its times and scores are finite."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"columns {', '.join(missing)} are missing", where=name, hint=f"need {', '.join(columns)}"
        )
    for column in ("start", "end", "score"):
        if column not in columns:
            continue
        finite = np.isfinite(table[column].to_numpy(dtype=np.float64))
        if not finite.all():
            row = int(np.argmin(finite))
            raise InputError(f"{column} is {table[column].iloc[row]} in row {row}", where=name)
