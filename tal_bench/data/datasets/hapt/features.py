"""Features of inertial windows: what a sensor felt for 2.56 seconds, as 64 numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

Floats = NDArray[np.float64]

WINDOW = 128
"""Samples under one feature."""
STRIDE = 32
"""Samples from one feature to the next."""
CHANNELS = 64
BANDS = 8
PARTS = 3
AXIS_PAIRS = ((0, 1), (0, 2), (1, 2))
FLAT = 1e-8
"""Below this a standard deviation is that of a signal that does not move."""


def window_features(signal: Floats) -> Floats:
    """Describe every window of a sensor's signal.

    Per axis and for the magnitude: mean, standard deviation, minimum, maximum, mean absolute difference of
    neighbouring samples, and the logarithm of the mean power in 8 equal bands of the spectrum without its
    constant part (52); correlations of the three pairs of axes (3); each axis's mean in each third of the
    window (9).

    Args:
        signal: samples [N, 3].

    Returns:
        [T, 64] with T = (N − 128) // 32 + 1; row i describes the samples 32 i to 32 i + 127.

    Raises:
        DataError: fewer samples than a window has.
    """
    if len(signal) < WINDOW:
        raise DataError(f"{len(signal)} samples, fewer than the {WINDOW} of a window")
    axes = np.lib.stride_tricks.sliding_window_view(signal, WINDOW, axis=0)[::STRIDE]
    four = np.concatenate([axes, np.linalg.norm(axes, axis=1, keepdims=True)], axis=1)
    mean, deviation = four.mean(axis=2), four.std(axis=2)
    change = np.abs(np.diff(four, axis=2)).mean(axis=2)
    power = np.abs(np.fft.rfft(four, axis=2)[:, :, 1:]) ** 2 / WINDOW
    bands = np.log(power.reshape(*power.shape[:2], BANDS, -1).mean(axis=3) + 1e-6)
    statistics = [mean, deviation, four.min(axis=2), four.max(axis=2), change]
    parts = [part.mean(axis=2) for part in np.array_split(axes, PARTS, axis=2)]
    columns = [*statistics, bands.reshape(len(axes), -1), _correlations(axes), *parts]
    return np.concatenate(columns, axis=1)


def _correlations(axes: Floats) -> Floats:
    """Correlations of the pairs of axes [T, 3] from windows [T, 3, W]; 0 where an axis does not move."""
    centred = axes - axes.mean(axis=2, keepdims=True)
    norm = np.sqrt((centred**2).sum(axis=2))
    moves = norm > FLAT * np.sqrt(WINDOW)
    unit = centred / np.where(moves, norm, np.inf)[:, :, None]
    return np.stack([(unit[:, a] * unit[:, b]).sum(axis=1) for a, b in AXIS_PAIRS], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """Means and standard deviations [64] of the training recordings' features."""

    mean: Floats
    deviation: Floats

    def __call__(self, features: Floats) -> NDArray[np.float32]:
        """z-scores [T, 64]."""
        return ((features - self.mean) / self.deviation).astype(np.float32)


def fit_scale(features: Sequence[Floats]) -> Scale:
    """Fit to all rows of the given recordings; a feature that never changes is only centred."""
    rows = np.concatenate(features)
    deviation = rows.std(axis=0)
    return Scale(rows.mean(axis=0), np.where(deviation > FLAT, deviation, 1.0))
