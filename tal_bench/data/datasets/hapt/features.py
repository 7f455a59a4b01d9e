"""Features of inertial signals: 64 values per window of 2.56 seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

Floats = NDArray[np.float64]

WINDOW = 128
"""Number of samples under one feature."""
STRIDE = 32
"""Number of samples between two features."""
CHANNELS = 64
BANDS = 8
PARTS = 3
AXIS_PAIRS = ((0, 1), (0, 2), (1, 2))
FLAT = 1e-8
"""Standard deviation below which a signal counts as constant."""


def window_features(signal: Floats) -> Floats:
    """Compute the features of every window of a sensor's signal.

    Per axis and for the magnitude: mean, standard deviation, minimum, maximum, mean absolute difference of
    neighbouring samples, and the logarithm of the mean power in 8 equal bands of the spectrum without its
    constant part (52); correlations of the three pairs of axes (3); each axis's mean in each third of the
    window (9).

    Args:
        signal: Samples [N, 3].

    Returns:
        Features [T, 64] with T = (N − 128) // 32 + 1; row i covers the samples 32 i to 32 i + 127.

    Raises:
        DataError: The signal is shorter than a window.
    """
    if len(signal) < WINDOW:
        raise DataError(f"{len(signal)} samples, need at least the {WINDOW} of a window")
    axes = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)[::STRIDE]
    signals = np.concatenate([axes, np.linalg.norm(axes, axis=1, keepdims=True)], axis=1)
    mean, deviation = signals.mean(axis=2), signals.std(axis=2)
    change = np.abs(np.diff(signals, axis=2)).mean(axis=2)
    power = np.abs(np.fft.rfft(signals, axis=2)[:, :, 1:]) ** 2 / WINDOW
    bands = np.log(power.reshape(*power.shape[:2], BANDS, -1).mean(axis=3) + 1e-6)
    statistics = [mean, deviation, signals.min(axis=2), signals.max(axis=2), change]
    parts = [part.mean(axis=2) for part in np.array_split(axes, PARTS, axis=2)]
    columns = [*statistics, bands.reshape(len(axes), -1), _correlations(axes), *parts]
    return np.concatenate(columns, axis=1)


def _correlations(axes: Floats) -> Floats:
    """Return the correlations of the axes [T, 3] from windows [T, 3, W]; 0 if an axis is constant."""
    centred = axes - axes.mean(axis=2, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=2))
    varies = norm > FLAT * np.sqrt(WINDOW)
    unit = centred / np.where(varies, norm, np.inf)[:, :, None]
    return np.stack([(unit[:, a] * unit[:, b]).sum(axis=1) for a, b in AXIS_PAIRS], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Means and standard deviations [64] of the training recordings' features."""

    mean: Floats
    deviation: Floats

    def __call__(self, features: Floats) -> NDArray[np.float32]:
        """Return the z-scores [T, 64] of features."""
        return ((features - self.mean) / self.deviation).astype(np.float32)


def fit_scale(features: Sequence[Floats]) -> Scale:
    """Fit the scale to all rows of the given recordings; constant features are only centred."""
    rows = np.concatenate(features)
    deviation = rows.std(axis=0)
    return Scale(rows.mean(axis=0), np.where(deviation > FLAT, deviation, 1.0))
