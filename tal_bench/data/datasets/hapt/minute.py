"""Work of extracting the features of one minute of a signal, as timed by `tal_bench.profiling`."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from tal_bench.data.datasets.hapt.features import window_features
from tal_bench.data.datasets.hapt.recordings import FPS, SENSORS

SECONDS = 60


def minute_work() -> dict[str, Callable[[], object]]:
    """Return functions that read the text of one minute of a sensor's signal and compute its features.

    The signal is noise, as the time does not depend on the values. The energy of sampling the sensor,
    which is the larger saving of leaving out the gyroscope, is not included.

    Returns:
        Functions ``backbone/acc`` and ``backbone/gyro``; there is no ``decode`` and no ``flow``.
    """
    signal = np.random.default_rng(0).normal(size=(int(FPS * SECONDS), 3))
    text = io.StringIO()
    np.savetxt(text, signal)
    content = text.getvalue()

    def features() -> object:
        return window_features(np.loadtxt(io.StringIO(content)))

    return {f"backbone/{sensor}": features for sensor in SENSORS}
