"""How much there is in a dataset: one row per split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tal_bench.data.annotations import AnnotatedVideo


def statistics(parts: Mapping[str, Sequence[AnnotatedVideo]]) -> pd.DataFrame:
    """Describe the splits of a dataset, after clipping and without duplicates.

    Returns:
        One row per split that has a video, indexed by its name: `videos`, `hours`, `segments`, `classes` that
        occur; `segments_per_video` (mean); least, median, mean and largest length of a segment
        (`segment_min` …) and of a video (`video_min` …) in seconds; `background`, the share of time without
        any action; `overlap`, the share of the time with an action that has two or more at once. NaN where
        there is nothing to take a share of.
    """
    rows = {name: _row(videos) for name, videos in parts.items() if videos}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")


def _row(videos: Sequence[AnnotatedVideo]) -> dict[str, Any]:
    durations = np.array([video.duration for video in videos])
    lengths = np.concatenate([np.diff(video.segments, axis=1)[:, 0] for video in videos])
    labels = np.concatenate([video.labels for video in videos])
    busy = np.array([covered(video.segments) for video in videos]).sum(axis=0)
    return {
        "videos": len(videos),
        "hours": durations.sum() / 3600,
        "segments": len(lengths),
        "classes": len(np.unique(labels)),
        "segments_per_video": len(lengths) / len(videos),
        **_lengths("segment", lengths),
        **_lengths("video", durations),
        "background": 1.0 - busy[0] / durations.sum(),
        "overlap": busy[1] / busy[0] if busy[0] else float("nan"),
    }


def _lengths(what: str, seconds: NDArray[np.float64]) -> dict[str, float]:
    if not len(seconds):
        return dict.fromkeys((f"{what}_{name}" for name in ("min", "median", "mean", "max")), float("nan"))
    return {
        f"{what}_min": float(seconds.min()),
        f"{what}_median": float(np.median(seconds)),
        f"{what}_mean": float(seconds.mean()),
        f"{what}_max": float(seconds.max()),
    }


def covered(segments: NDArray[np.float64]) -> tuple[float, float]:
    """Seconds under at least one segment, and under at least two."""
    if not len(segments):
        return 0.0, 0.0
    times = segments.ravel()
    order = np.argsort(times, kind="stable")
    depth = np.cumsum(np.tile([1, -1], len(segments))[order])[:-1]
    gaps = np.diff(times[order])
    return float(gaps[depth >= 1].sum()), float(gaps[depth >= 2].sum())
