"""Time of NMS for one video: 2000 candidates in each of 20 classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tal_bench.training.decoding.nms import NmsSettings, batched_nms


@pytest.mark.parametrize("mode", ["gaussian", "linear", "hard"])
@pytest.mark.parametrize("multiclass", [True, False], ids=["multiclass", "agnostic"])
def test_nms(benchmark: Any, mode: Any, multiclass: bool) -> None:
    rng = np.random.default_rng(0)
    count = 2000 * 20
    start = rng.uniform(0, 2304, count)
    segments = np.stack([start, start + rng.lognormal(3, 1, count)], axis=1).astype(np.float32)
    scores = rng.uniform(0.001, 1, count).astype(np.float32)
    labels = np.repeat(np.arange(20), 2000)
    chosen = NmsSettings(mode=mode, multiclass=multiclass, voting_threshold=0.7)
    kept, _, _ = benchmark.pedantic(
        batched_nms, (segments, scores, labels, chosen), rounds=10, warmup_rounds=1
    )
    assert 0 < len(kept) <= 200
    assert benchmark.stats.stats.median < 0.5
