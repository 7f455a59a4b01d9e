"""What kind of mistake each detection is, and what its kind costs: after DETAD (Alwassel et al., ECCV 2018).

A true positive is what the evaluation's own matching says it is. Every other detection is named by the
ground truth of its video, of whatever class, that it overlaps most:

    tIoU with it      same class          another class
    ≥ threshold       double detection    wrong label
    ≥ 0.1             localization        confusion
    less              background          background

So the six categories partition the evaluated detections at every threshold. A double detection is exactly
that: all ground truths of its class that it reaches are taken, or the matching would have given it one. Of
equally near ground truths one of its own class counts (DETAD leaves that to the order of its file).
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
    Encoded,
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
NEAR = 0.1
"""tIoU from which a detection is about a ground truth at all."""
MULTIPLES = 10
"""The false-positive profile reaches to this many times as many detections as there are ground truths."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Every detection of a run with its category.

    Attributes:
        matches: as the evaluation has them; `N` detections ordered by class, then by falling score.
        category: index into `CATEGORIES` per threshold and detection `[T, N]`.
        segment: start and end of each detection in seconds `[N, 2]`.
        truth: ground truth, cleaned as for the evaluation; its rows are the `G` of `matches`.
    """

    matches: Matches
    category: NDArray[np.int8]
    segment: Floats
    truth: pd.DataFrame

    @property
    def counts(self) -> Ints:
        """Detections per threshold and category `[T, 6]`; each row sums to N."""
        return np.stack([np.bincount(row, minlength=len(CATEGORIES)) for row in self.category])


@dataclass(frozen=True)
class Gains:
    """Average mAP, and how much it rises when a kind of error is removed; all in 0 … 1.

    `average_map + all_errors + missed` is 1: without a single false positive the average precision of a class
    is its recall, and only finding what was missed can add to that. The gains of single errors do not add
    up to `all_errors`, since each is taken while the others are still there.

    Attributes:
        average_map: as the evaluation has it.
        errors: per kind of `ERRORS`, the gain when its detections are removed.
        all_errors: the gain when all false positives are removed.
        missed: what is left to 1: the mean over classes and thresholds of the share never found.
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
    """Name every detection; arguments and errors as `matching.match`, whose outcome it keeps.

    As there, detections whose label has no ground truth are dropped, and those in videos outside `videos`
    count as false positives (background).
    """
    matches = match(detections, ground_truth, thresholds, videos=videos)
    truth = clean_ground_truth(ground_truth)
    data = encode(detections, truth, videos)  # the same order of detections as in `matches`
    nearest, same = _nearest(data)
    level = matches.thresholds[:, None]
    category = np.where(
        matches.true_positive,
        TRUE_POSITIVE,
        np.where(
            nearest >= level,
            np.where(same, DOUBLE, WRONG_LABEL),
            np.where(nearest >= NEAR, np.where(same, LOCALIZATION, CONFUSION), BACKGROUND),
        ),
    )
    return Diagnosis(matches, category.astype(np.int8), data.segment, truth)


def _nearest(data: Encoded) -> tuple[Floats, Bools]:
    """Largest tIoU with a ground truth of any class in its video, and whether one of its own has it `[N]`."""
    nearest = np.zeros(len(data.video))
    same = np.zeros(len(data.video), dtype=bool)
    for video in np.unique(data.gt_video):
        here = np.flatnonzero(data.video == video)
        there = np.flatnonzero(data.gt_video == video)
        pair_det, pair_truth = np.repeat(here, len(there)), np.tile(there, len(here))
        shape = (len(here), len(there))
        tiou = segment_tiou(data.segment[pair_det], data.gt_segment[pair_truth]).reshape(shape)
        own = (data.label[pair_det] == data.gt_label[pair_truth]).reshape(shape)
        nearest[here] = tiou.max(axis=1)
        same[here] = np.where(own, tiou, -1.0).max(axis=1) >= nearest[here]
    return nearest, same


def profile(diagnosis: Diagnosis, multiples: int = MULTIPLES) -> Ints:
    """False-positive profile: categories among the best G, the next G … detections of each class.

    Of a class with G_j ground truths, slice k holds the detections of rank k · G_j to (k + 1) · G_j, so that
    common classes do not crowd out rare ones. Cumulated over slices, it tells of the best k · G.

    Returns:
        Detections per slice, threshold and category `[multiples, T, 6]`.
    """
    matches = diagnosis.matches
    edges = np.searchsorted(matches.label, np.arange(len(matches.classes)))
    rank = np.arange(len(matches.label)) - edges[matches.label]
    truths = np.bincount(matches.gt_label, minlength=len(matches.classes))
    part = rank // truths[matches.label]
    kept = part < multiples
    cells = part[kept] * len(CATEGORIES) + diagnosis.category[:, kept]
    size = multiples * len(CATEGORIES)
    table = np.stack([np.bincount(row, minlength=size) for row in cells])
    return table.reshape(len(matches.thresholds), multiples, -1).swapaxes(0, 1)


def gains(diagnosis: Diagnosis) -> Gains:
    """What each kind of error costs in average mAP, measured by leaving its detections out.

    DETAD measures it so, too, but on the best 10 · G detections and with normalised precision; this is the
    average mAP of the tables, on all detections, so that it can be compared with them.
    """

    def average(ignored: Bools) -> float:
        # False positives hold no ground truth, so leaving them out does not change the matching.
        return float(np.nanmean(ap_from_matches(replace(diagnosis.matches, ignored=ignored))))

    kinds = diagnosis.category
    base = average(np.zeros(kinds.shape, dtype=bool))
    recall = average(kinds != TRUE_POSITIVE)
    return Gains(
        average_map=base,
        errors={name: average(kinds == k) - base for k, name in enumerate(ERRORS, start=1)},
        all_errors=recall - base,
        missed=1.0 - recall,
    )


def video_ap(matches: Matches) -> Floats:
    """Average precision within each video, all its classes in one ranking `[T, V]`; NaN without ground truth.

    Which detection is right is decided per class as ever. Ranking them together counts false positives of
    classes that the video does not show, which a mean over the video's classes would not.
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
