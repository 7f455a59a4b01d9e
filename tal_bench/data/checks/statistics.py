"""Statistics of the splits of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tal_bench.data.annotations import AnnotatedVideo


def statistics(parts: Mapping[str, Sequence[AnnotatedVideo]]) -> pd.DataFrame:
    """Compute statistics of the splits of a dataset, after clipping and without duplicate segments.

    Returns:
        One row per non-empty split, indexed by its name: `videos`, `hours`, `segments`, `classes` (that
        occur), `segments_per_video` (mean); minimum, median, mean and maximum length of segments
        (`segment_min` …) and of videos (`video_min` …) in seconds; `background`, the share of time without
        an action; `overlap`, the share of the time with an action that has two or more. NaN if undefined.
    """
    rows = {name: _row(videos) for name, videos in parts.items() if videos}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("split")


def _row(videos: Sequence[AnnotatedVideo]) -> dict[str, Any]:
    durations = np.array([video.duration for video in videos])
    lengths = np.concatenate([np.diff(video.segments, axis=1)[:, 0] for video in videos])
    labels = np.concatenate([video.labels for video in videos])
    seconds = np.array([covered(video.segments) for video in videos]).sum(axis=0)
    return {
        "videos": len(videos),
        "hours": durations.sum() / 3600,
        "segments": len(lengths),
        "classes": len(np.unique(labels)),
        "segments_per_video": len(lengths) / len(videos),
        **_lengths("segment", lengths),
        **_lengths("video", durations),
        "background": 1.0 - seconds[0] / durations.sum(),
        "overlap": seconds[1] / seconds[0] if seconds[0] else float("nan"),
    }


def _lengths(name: str, seconds: NDArray[np.float64]) -> dict[str, float]:
    if not len(seconds):
        return dict.fromkeys((f"{name}_{key}" for key in ("min", "median", "mean", "max")), float("nan"))
    return {
        f"{name}_min": float(seconds.min()),
        f"{name}_median": float(np.median(seconds)),
        f"{name}_mean": float(seconds.mean()),
        f"{name}_max": float(seconds.max()),
    }


def covered(segments: NDArray[np.float64]) -> tuple[float, float]:
    """Return the seconds covered by at least one segment, and by at least two."""
    if not len(segments):
        return 0.0, 0.0
    times = segments.ravel()
    order = np.argsort(times, kind="stable")
    depth = np.cumsum(np.tile([1, -1], len(segments))[order])[:-1]
    gaps = np.diff(times[order])
    return float(gaps[depth >= 1].sum()), float(gaps[depth >= 2].sum())
