"""Conversion between seconds and the feature grid, and interpolation of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec


@dataclass(frozen=True, slots=True)
class Timing:
    """Timing of the features of a video.

    Attributes:
        stride: Frames between two features.
        window: Frames under one feature.
        offset: Frame at which the window of the first feature begins.
        steps: T, the number of features.
    """

    stride: float
    window: float
    offset: float
    steps: int


def timing(spec: DatasetSpec, steps: int, *, fps: float, duration: float) -> Timing:
    """Compute the timing of a video's features after downsampling and resizing.

    For resized features, and for features that cover their video evenly (stride 0), window and stride are the
    number of frames that the file covers, divided by the number of steps (as in ActionFormer).

    Args:
        spec: Dataset.
        steps: Number of features after downsampling.
        fps: Frame rate of the video.
        duration: Duration of the video in seconds.
    """
    stride = spec.stride * spec.downsample
    if stride and spec.resize is None:
        return Timing(stride, spec.window, spec.offset, steps)
    length = spec.resize or steps
    covered = (steps - 1) * stride + spec.window if stride else duration * fps
    return Timing(covered / length, covered / length, spec.offset, length)


def to_grid(
    seconds: NDArray[Any], fps: float, stride: float, window: float, offset: float = 0.0
) -> NDArray[np.float64]:
    """Convert seconds to grid positions: (t · fps − offset − 0.5 · window) / stride."""
    return np.asarray((np.asarray(seconds, dtype=np.float64) * fps - offset - 0.5 * window) / stride)


def to_seconds(
    grid: NDArray[Any], fps: float, stride: float, window: float, offset: float = 0.0
) -> NDArray[np.float64]:
    """Convert grid positions to seconds: (x · stride + offset + 0.5 · window) / fps."""
    return np.asarray((np.asarray(grid, dtype=np.float64) * stride + offset + 0.5 * window) / fps)


def resized(values: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Interpolate features [T, C] linearly to [length, C].

    Equal to `torch.nn.functional.interpolate(mode="linear", align_corners=False)`.
    """
    steps = len(values)
    if steps == length:
        return values
    position = np.clip((np.arange(length) + 0.5) * steps / length - 0.5, 0.0, steps - 1.0)
    low = np.minimum(position.astype(np.int64), max(steps - 2, 0))
    share = (position - low).astype(np.float32)[:, None]
    result: NDArray[np.float32] = values[low] * (1 - share) + values[np.minimum(low + 1, steps - 1)] * share
    return result
