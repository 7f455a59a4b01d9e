"""Time of the evaluation of a test set of the size of THUMOS14, and of a bootstrap over its videos."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from tal_bench.evaluation.mean_ap import ap_from_matches, interpolated_ap, match, thumos_ap
from tal_bench.evaluation.significance import video_draws

THRESHOLDS = [0.3, 0.4, 0.5, 0.6, 0.7]


def tables(videos: int, per_video: int, classes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return detections and ground truth: fifteen segments per video, detected several times with errors."""
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(videos), 15)
    start = rng.uniform(0, 200, len(video))
    label = np.repeat(rng.integers(0, classes, videos), 15)
    truth = pd.DataFrame(
        {"video": video, "start": start, "end": start + rng.lognormal(1.2, 0.6, len(video)), "label": label}
    )
    source = truth.iloc[
        np.repeat(np.arange(videos) * 15, per_video) + rng.integers(0, 15, videos * per_video)
    ]
    noise = rng.normal(0, 1, (len(source), 2))
    found = source.assign(start=source["start"] + noise[:, 0], end=source["end"] + noise[:, 1])
    found["end"] = np.maximum(found["end"], found["start"] + 0.1)
    found["label"] = np.where(
        rng.random(len(found)) < 0.7, found["label"], rng.integers(0, classes, len(found))
    )
    found = found.assign(score=rng.random(len(found)))
    for table in (truth, found):
        table["video"] = table["video"].map("video_test_{:07d}".format)
        table["label"] = table["label"].map("class {}".format)
    return found.reset_index(drop=True), truth


def test_interpolated_ap(benchmark: Any) -> None:
    found, truth = tables(213, 200, 20)
    result = benchmark(interpolated_ap, found, truth, THRESHOLDS)
    assert 0 < result.average < 1
    assert benchmark.stats.stats.median < 1.0


def test_thumos_ap(benchmark: Any) -> None:
    found, truth = tables(213, 200, 20)
    assert 0 < benchmark(thumos_ap, found, truth, THRESHOLDS).average < 1


def test_bootstrap_over_videos(benchmark: Any) -> None:
    found, truth = tables(60, 100, 10)
    matches = match(found, truth, THRESHOLDS)
    weights = video_draws(len(matches.videos), 1000, 0)
    result = benchmark.pedantic(ap_from_matches, (matches, weights), rounds=5, warmup_rounds=1)
    assert result.shape == (1000, 5, 10)
    assert benchmark.stats.stats.median < 2.0
