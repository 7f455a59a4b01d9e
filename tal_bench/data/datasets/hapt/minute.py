"""The work of extracting the features of a minute of a sensor's signal, for `tal_bench.profiling` to time."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from tal_bench.data.datasets.hapt.features import window_features
from tal_bench.data.datasets.hapt.recordings import FPS, SENSORS

SECONDS = 60


def minute_work() -> dict[str, Callable[[], object]]:
    """Calls that do the work of a minute of each sensor: read its text, compute its features.

    The signal is noise, whose values cost what any values cost. The energy of sampling the sensor itself,
    which is the larger saving of leaving the gyroscope out, is not included.

    Returns:
        ``backbone/acc`` and ``backbone/gyro``; there is no ``decode`` and no ``flow``.
    """
    signal = np.random.default_rng(0).normal(size=(int(FPS * SECONDS), 3))
    text = io.StringIO()
    np.savetxt(text, signal)
    content = text.getvalue()

    def features() -> object:
        return window_features(np.loadtxt(io.StringIO(content)))

    return {f"backbone/{sensor}": features for sensor in SENSORS}
