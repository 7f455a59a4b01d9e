"""Recall metrics: Recall@k× (ActionFormer) and AR@AN (ActivityNet proposals)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import (
    Bools,
    EncodedTables,
    Floats,
    Ints,
    candidate_pairs,
    check_thresholds,
    clean_ground_truth,
    encode,
)

ACTIVITYNET_TIOU = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))


@dataclass(frozen=True, eq=False)
class RecallAtK:
    """Recall with k times as many detections as ground truths, per tIoU, k and class.

    Attributes:
        thresholds: tIoU thresholds `[T]`.
        ks: Multiples k `[R]`.
        classes: The `K` labels of the ground truth, sorted.
        recall: Recall `[T, R, K]`, 0 … 1.
    """

    thresholds: Floats
    ks: tuple[int, ...]
    classes: tuple[Any, ...]
    recall: Floats

    @property
    def mean(self) -> Floats:
        """Mean over classes `[T, R]`."""
        return np.asarray(self.recall.mean(axis=2))


@dataclass(frozen=True, eq=False)
class AverageRecall:
    """Class-agnostic recall against the average number of proposals per video.

    Attributes:
        thresholds: tIoU thresholds `[T]`.
        numbers: Average numbers of proposals per video `[A]`.
        recall: Recall `[T, A]`, 0 … 1.
    """

    thresholds: Floats
    numbers: tuple[float, ...]
    recall: Floats

    @property
    def average(self) -> Floats:
        """AR@AN, the mean over thresholds `[A]`."""
        return np.asarray(self.recall.mean(axis=0))


def recall_at_k(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    thresholds: Sequence[float] | Floats,
    ks: Sequence[int] = (1, 5),
    *,
    videos: Sequence[Any] | None = None,
) -> RecallAtK:
    """Compute Recall@k× from the best k · (number of ground truths) detections of each video and class.

    A ground truth is found if any of these detections reaches the threshold; one detection may find several.
    Arguments and errors as in `matching.match`.
    """
    levels = check_thresholds(thresholds)
    if not ks or min(ks) < 1:
        raise InputError(f"ks {list(ks)}", where="ks", hint="give whole numbers ≥ 1")
    data = encode(detections, clean_ground_truth(ground_truth), videos)
    n_class = len(data.classes)
    group = np.where(data.video < 0, len(data.videos), data.video) * n_class + data.label
    rank = _rank_in_group(group)
    gt_group = data.gt_video * n_class + data.gt_label
    n_truths = np.bincount(gt_group, minlength=(len(data.videos) + 1) * n_class)
    total = np.bincount(data.gt_label, minlength=n_class)

    recall = np.empty((len(levels), len(ks), n_class))
    best = _best_rank(data, rank, levels)
    for r, k in enumerate(ks):
        is_found = best < k * n_truths[gt_group]
        for level in range(len(levels)):
            recall[level, r] = np.bincount(data.gt_label[is_found[level]], minlength=n_class) / total
    return RecallAtK(levels, tuple(ks), data.classes, recall)


def average_recall(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    numbers: Sequence[float] = (1, 5, 10, 50, 100),
    thresholds: Sequence[float] | Floats = ACTIVITYNET_TIOU,
    *,
    videos: Sequence[Any] | None = None,
) -> AverageRecall:
    """Compute AR@AN as in the ActivityNet proposal task, regardless of labels.

    For an average number A, every video keeps the same share A · V / (all proposals) of its own proposals.
    Arguments and errors as in `matching.match`.
    """
    levels = check_thresholds(thresholds)
    if not numbers or min(numbers) <= 0:
        raise InputError(f"average numbers {list(numbers)}", where="numbers", hint="give numbers > 0")
    data = encode(detections.assign(label=0), clean_ground_truth(ground_truth).assign(label=0), videos)
    inside = data.video >= 0
    size = np.bincount(data.video[inside], minlength=len(data.videos))
    rank = _rank_in_group(np.where(inside, data.video, len(data.videos)))
    best = _best_rank(data, rank, levels)
    recall = np.zeros((len(levels), len(numbers)))
    for a, number in enumerate(numbers):
        share = number * len(data.videos) / max(int(size.sum()), 1)
        kept = np.minimum((size * share).astype(np.int64), size)
        is_found: Bools = best < kept[data.gt_video]
        recall[:, a] = is_found.mean(axis=1)
    return AverageRecall(levels, tuple(numbers), recall)


def _rank_in_group(group: Ints) -> Ints:
    """Return the position of each entry among the entries of its group `[N]`."""
    order = np.argsort(group, kind="stable")
    sorted_group = group[order]
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.searchsorted(sorted_group, sorted_group)
    return rank


def _best_rank(data: EncodedTables, rank: Ints, thresholds: Floats) -> Ints:
    """Return the rank of the best detection that reaches each ground truth `[T, G]`; N + 1 if none does."""
    det, truth, tiou = candidate_pairs(data)
    best = np.full((len(thresholds), len(data.gt_video)), len(data.video) + 1, dtype=np.int64)
    for level, threshold in enumerate(thresholds):
        reached = tiou >= threshold
        np.minimum.at(best[level], truth[reached], rank[det[reached]])
    return best
