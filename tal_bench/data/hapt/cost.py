"""What a minute of a sensor's signal costs before any detector runs."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np

from tal_bench.data.hapt.features import window_features
from tal_bench.data.hapt.recordings import FPS, SENSORS

SECONDS = 60
RUNS = 5


def minute_cost() -> dict[str, float]:
    """CPU seconds, on one thread, for a minute of each sensor: reading its text, and its features.

    Both sensors cost the same, measured on noise, whose values cost what any values cost. What sampling a
    sensor costs the phone's battery is not in it, the larger saving of doing without the gyroscope.

    Returns:
        ``backbone/acc`` and ``backbone/gyro``, each the smallest of five; ``decode`` and ``flow`` are 0,
        there is no such step.
    """
    signal = np.random.default_rng(0).normal(size=(int(FPS * SECONDS), 3))
    text = io.StringIO()
    np.savetxt(text, signal)
    seconds = _best(lambda: window_features(np.loadtxt(io.StringIO(text.getvalue()))))
    return {"decode": 0.0, "flow": 0.0} | {f"backbone/{sensor}": seconds for sensor in SENSORS}


def _best(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)
