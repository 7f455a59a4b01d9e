"""Ground truth and best detections of the test videos, for the timeline of the page of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.evaluation.matching import match
from tal_bench.report.diagnosis.source import Source
from tal_bench.results.segment_files import read_result_file
from tal_bench.system.text import printable

TIOU = 0.5
"""tIoU above which a detection is correct; the closest threshold of the study is used."""
PER_TRUTH = (3.0, 2.0, 1.5, 1.0)
"""Detections per ground truth of a video, those with the highest scores; the largest that fits is used."""
FEWEST = 4
"""Detections of a video with few ground truths."""
MOST = 50_000
"""Maximum number of detections of a page, about a megabyte."""
CENTI, MILLI = 100, 1000
"""Units of times and scores per second and per 1."""


@dataclass(frozen=True)
class VideoSelection:
    """Videos of a timeline.

    Attributes:
        names: Names of the videos, sorted.
        kept: Number of detections of each video.
    """

    names: Sequence[str]
    kept: Mapping[str, int]


def select_videos(truths: Mapping[str, int], rows: int, most: int = MOST) -> VideoSelection:
    """Select videos and the number of their detections so that the page stays small.

    If one detection per ground truth is too many, videos at equal distances in the order of names remain.

    Args:
        truths: Number of ground truths of each test video.
        rows: Number of rows.
        most: Maximum number of detections, of all rows together.
    """
    names = sorted(truths)
    for factor in PER_TRUTH:
        kept = {name: max(FEWEST, int(np.ceil(factor * truths[name]))) for name in names}
        if rows * sum(kept.values()) <= most:
            return VideoSelection(names, kept)
    share = most / (rows * sum(kept.values()))
    places = np.unique(np.linspace(0, len(names) - 1, max(1, int(share * len(names)))).astype(int))
    return VideoSelection([names[k] for k in places], kept)


def timeline_data(source: Source, averages: Mapping[tuple[str, int | None], float]) -> dict[str, Any]:
    """Return the data that `video_timeline.js` describes, of the first finished run of each row.

    Args:
        source: Result of `study_source`.
        averages: Average mAP in percent of the finished runs by row and seed.
    """
    finished = {
        name: [run for run in runs if (name, run[0]) in averages] for name, runs in source.rows.items()
    }
    runs = {name: found[0] for name, found in finished.items() if found}
    truth, names = source.truth, source.truth.attrs["videos"]
    counts = truth["video"].value_counts()
    selected = select_videos({video: int(counts.get(video, 0)) for video in names}, max(len(runs), 1))
    classes = sorted(truth["label"].unique())
    level = min(source.thresholds, key=lambda threshold: abs(threshold - TIOU))
    detections = {
        name: _detections(read_result_file(file), truth, level, selected, classes)
        for name, (_, file) in runs.items()
    }
    segments = _flat(truth.sort_values("start", kind="stable"), classes)
    ends = truth.groupby("video")["end"].max()
    return {
        "tiou": level,
        "of": len(names),
        "classes": [printable(label) for label in classes],
        "rows": [
            {
                "name": printable(name),
                "seed": seed,
                "map": round(averages[name, seed], 2),
                "student": name in source.students,
            }
            for name, (seed, _) in runs.items()
        ],
        "videos": [
            {
                "name": printable(video),
                # the end of the last ground truth where the duration is not known
                "duration": round(CENTI * source.durations.get(video, float(ends.get(video, 1.0)))),
                "truth": segments.get(video, []),
                "detections": [found.get(video, []) for found in detections.values()],
            }
            for video in selected.names
        ],
    }


def _detections(
    detections: pd.DataFrame,
    truth: pd.DataFrame,
    level: float,
    selected: VideoSelection,
    classes: Sequence[str],
) -> dict[str, list[int]]:
    """Return the best detections of each video as a flat list, with whether they are correct."""
    detections = detections[detections["label"].isin(classes)]
    detections = detections.sort_values("score", ascending=False, kind="stable")
    rank = detections.groupby("video").cumcount()
    # A detection is matched before all those of lower scores, so these change nothing.
    best = detections[rank < detections["video"].map(selected.kept).fillna(0)].reset_index(drop=True)
    matches = match(best, truth, [level])
    hits = np.zeros(len(best), dtype=np.int64)
    hits[matches.row] = matches.true_positive[0]
    return _flat(best.assign(hit=hits)[best["video"].isin(selected.names)], classes)


def _flat(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, list[int]]:
    """Return start, length and class of the segments of each video; of detections, also score and hit."""
    start, end = ((CENTI * table[key]).round().astype(int) for key in ("start", "end"))
    columns = [start, end - start, table["label"].map({label: k for k, label in enumerate(classes)})]
    if "score" in table:
        columns += [(MILLI * table["score"]).round().astype(int), table["hit"]]
    lines = np.stack([column.to_numpy(dtype=np.int64) for column in columns], axis=1)
    videos = table.groupby("video", sort=False).indices
    return {str(video): lines[rows].ravel().tolist() for video, rows in videos.items()}
