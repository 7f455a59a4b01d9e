"""Mean average precision of files of detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.files import read_detections, read_ground_truth, read_video_names
from tal_bench.evaluation.label_alignment import LabelReading, align_labels, align_videos
from tal_bench.evaluation.matching import APMethod
from tal_bench.evaluation.mean_ap import MeanAP, interpolated_ap, thumos_ap

TIOU = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True)
class Evaluated:
    """Result of one file of detections.

    Attributes:
        result: Average precision.
        detections: Number of detections, without those in excluded videos.
        stray: Number of detections in videos outside the subset.
        unknown: Number of detections whose label is not in the ground truth.
    """

    result: MeanAP
    detections: int
    stray: int
    unknown: int


@dataclass(frozen=True, eq=False)
class AlignedDetections:
    """Detections with the names of videos and classes of the ground truth.

    Attributes:
        table: Columns video, start, end, label, score, without those in excluded videos.
        stray: Number of detections in videos outside the subset.
        unknown: Number of detections whose label is not in the ground truth.
    """

    table: pd.DataFrame
    stray: int
    unknown: int


def evaluate(
    ground_truth: Path | str,
    detections: Path | str,
    *,
    tiou: Sequence[float] = TIOU,
    subset: str | None = "test",
    exclude: Sequence[str] = (),
    ap_method: APMethod = "activitynet",
    labels: LabelReading = "auto",
) -> MeanAP:
    """Compute the mean average precision of a file of detections, as `tal-bench evaluate` does.

    Names of videos and labels of the detections are aligned with those of the ground truth.

    Args:
        ground_truth: Annotations in the style of ActivityNet.
        detections: JSON in the style of ActivityNet, or a table (`.csv`, `.tsv`) with the columns video,
            start, end, label and score.
        tiou: tIoU thresholds.
        subset: Subset of the videos, case-insensitive; None for every video.
        exclude: Names of videos to leave out, or files that list them.
        ap_method: Method of computing AP; results of the two are not comparable.
        labels: Whether labels of the detections are class names or values of `label_id`; `auto` to tell from
            the file.

    Raises:
        DataError: A file is missing or malformed, the subset is unknown, or labels fit as names and as ids.
        InputError: The subset has no segments, or an excluded video does not exist.
    """
    truth = select_ground_truth(ground_truth, subset, exclude)
    return evaluate_file(detections, truth, tiou, ap_method, labels).result


def select_ground_truth(file: Path | str, subset: str | None, exclude: Sequence[str]) -> pd.DataFrame:
    """Read the ground truth of a subset without excluded videos, whose names are in `.attrs["excluded"]`.

    Arguments and errors as in `evaluate`.
    """
    truth = read_ground_truth(file, subset, drop_reversed=True)
    videos = truth.attrs["videos"]
    name = "all" if subset is None else subset
    excluded: set[str] = set()
    for word in exclude:
        if word in videos:
            excluded.add(word)
        elif Path(word).is_file():
            excluded.update(read_video_names(word))
        else:
            raise InputError(
                f"no such video in subset '{name}', and no such file",
                where=f"--exclude {word}",
                hint=f"see {file}",
            )
    kept = truth[~truth["video"].isin(excluded)].reset_index(drop=True)
    kept.attrs = {
        **truth.attrs,
        "videos": tuple(v for v in videos if v not in excluded),
        "excluded": excluded,
    }
    if kept.empty:
        raise InputError(f"no segments in subset '{name}'", where=file, hint="give another --subset")
    return kept


def evaluate_file(
    file: Path | str,
    truth: pd.DataFrame,
    tiou: Sequence[float],
    ap_method: APMethod,
    labels: LabelReading = "auto",
) -> Evaluated:
    """Evaluate a file of detections against the result of `select_ground_truth`."""
    aligned = align_detections(read_detections(file), truth, file, labels)
    compute = interpolated_ap if ap_method == "activitynet" else thumos_ap
    result = compute(aligned.table, truth, tiou, videos=truth.attrs["videos"])
    return Evaluated(result, len(aligned.table), aligned.stray, aligned.unknown)


def align_detections(
    table: pd.DataFrame, truth: pd.DataFrame, file: Path | str, labels: LabelReading = "auto"
) -> AlignedDetections:
    """Return the detections of a file with the names of videos and classes of `select_ground_truth`.

    Raises:
        DataError: No detection has a video or a class of the ground truth, or labels fit as names and as ids.
    """
    videos, excluded = truth.attrs["videos"], truth.attrs["excluded"]
    detections = align_videos(table, [*videos, *excluded], where=file)
    detections = detections[~detections["video"].isin(excluded)].reset_index(drop=True)
    detections = align_labels(detections, truth, where=file, reading=labels)
    unknown = ~detections["label"].isin(truth["label"])
    stray = ~detections["video"].isin(videos) & ~unknown
    return AlignedDetections(detections, int(stray.sum()), int(unknown.sum()))
