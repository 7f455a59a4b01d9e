"""Convert detections and ground truth to tables for the evaluation and to JSON for files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.data.dataset import Video
from tal_bench.types import Segments

SECONDS_DECIMALS, SCORE_DIGITS = 3, 5
"""Detections are rounded before evaluation, so that evaluating the files gives the same numbers."""


def detections_table(detections: Sequence[Segments], classes: Sequence[str]) -> pd.DataFrame:
    """Return detections as a table with columns video, start, end, label, score; times in seconds."""
    names = np.asarray(classes, dtype=object)
    segments = np.concatenate([d.segments for d in detections]).astype(np.float64).round(SECONDS_DECIMALS)
    scores = np.concatenate([d.scores for d in detections]).astype(np.float64)
    digits = SCORE_DIGITS - 1 - np.floor(np.log10(np.maximum(scores, 1e-12)))
    scores = np.round(scores * 10**digits) / 10**digits
    return pd.DataFrame(
        {
            "video": np.repeat([d.video for d in detections], [len(d.scores) for d in detections]),
            "start": segments[:, 0],
            "end": segments[:, 1],
            "label": names[np.concatenate([d.labels for d in detections])],
            "score": scores,
        }
    )


def ground_truth_table(videos: Sequence[Video], classes: Sequence[str]) -> pd.DataFrame:
    """Return the ground truth as a table with columns video, start, end, label; times in seconds."""
    rows = [
        (video.meta.id, start, end, classes[label])
        for video in videos
        for (start, end), label in zip(video.segments_seconds.tolist(), video.labels.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["video", "start", "end", "label"])


def detections_csv(table: pd.DataFrame) -> str:
    """Return detections as CSV, in which all text has quotes: a class named `7` is no number."""
    lines = table.to_csv(index=False, header=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return ",".join(table.columns) + "\n" + lines


def detections_json(table: pd.DataFrame) -> dict[str, Any]:
    """Return detections in ActivityNet format: `{"results": {video: [{"segment", "label", "score"}]}}`.

    The order of the detections is that of the table, since it decides between equal scores.
    """
    return {
        "results": {
            str(video): [
                {"segment": [start, end], "label": label, "score": score}
                for start, end, label, score in zip(
                    part["start"].tolist(),
                    part["end"].tolist(),
                    part["label"].tolist(),
                    part["score"].tolist(),
                    strict=True,
                )
            ]
            for video, part in table.groupby("video", sort=False)
        }
    }


def ground_truth_json(
    videos: Sequence[Video], classes: Sequence[str], groups: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the test videos in ActivityNet format: `{"database": {video: {"subset", "duration", …}}}`.

    `classes` lists all classes, some of which may have no segment in these videos.

    If videos are grouped, for example by person or camera, each has a `group`.
    """
    grouped = groups is not None and any(groups[video.meta.id] != video.meta.id for video in videos)
    return {
        "classes": list(classes),
        "database": {
            video.meta.id: {
                "subset": "test",
                "duration": video.meta.duration,
                "fps": video.meta.fps,
                **({"group": groups[video.meta.id]} if groups and grouped else {}),
                "annotations": [
                    {"segment": segment, "label": classes[label], "label_id": label}
                    for segment, label in zip(
                        video.segments_seconds.tolist(), video.labels.tolist(), strict=True
                    )
                ],
            }
            for video in videos
        },
    }
