"""How much there is in a dataset: one row per subset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tal_bench.data.annotations import AnnotatedVideo, Annotations


def statistics(annotations: Annotations) -> pd.DataFrame:
    """Describe every subset of an annotation file, after clipping and without duplicates.

    Returns:
        One row per subset, in file order, indexed by its name: `videos`, `hours`, `segments`, `classes` that
        occur; `segments_per_video` (mean); `segment_median` and `segment_max`, `video_median` and `video_max`
        in seconds; `background`, the share of time without any action; `overlap`, the share of the time with
        an action that has two or more at once. NaN where there is nothing to take a share of.
    """
    groups: dict[str, list[AnnotatedVideo]] = {}
    spelling: dict[str, str] = {}
    for video in annotations.videos:
        name = spelling.setdefault(video.subset.casefold(), video.subset)
        groups.setdefault(name, []).append(video)
    rows = {name: _row(videos) for name, videos in groups.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("subset")


def _row(videos: Sequence[AnnotatedVideo]) -> dict[str, Any]:
    durations = np.array([video.duration for video in videos])
    lengths = np.concatenate([np.diff(video.segments, axis=1)[:, 0] for video in videos])
    labels = np.concatenate([video.labels for video in videos])
    covered = np.array([_covered(video.segments) for video in videos]).sum(axis=0)
    return {
        "videos": len(videos),
        "hours": durations.sum() / 3600,
        "segments": len(lengths),
        "classes": len(np.unique(labels)),
        "segments_per_video": len(lengths) / len(videos),
        "segment_median": float(np.median(lengths)) if len(lengths) else float("nan"),
        "segment_max": float(lengths.max()) if len(lengths) else float("nan"),
        "video_median": float(np.median(durations)),
        "video_max": float(durations.max()),
        "background": 1.0 - covered[0] / durations.sum(),
        "overlap": covered[1] / covered[0] if covered[0] else float("nan"),
    }


def _covered(segments: NDArray[np.float64]) -> tuple[float, float]:
    """Seconds under at least one segment, and under at least two."""
    if not len(segments):
        return 0.0, 0.0
    times = segments.ravel()
    order = np.argsort(times, kind="stable")
    depth = np.cumsum(np.tile([1, -1], len(segments))[order])[:-1]
    gaps = np.diff(times[order])
    return float(gaps[depth >= 1].sum()), float(gaps[depth >= 2].sum())
