"""From seconds to the feature grid and back, and features of another number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the features of a video lie in it.

    Attributes:
        stride: frames between two features.
        window: frames under one feature.
        offset: frame at which the first feature's window begins.
        steps: T.
    """

    stride: float
    window: float
    offset: float
    steps: int


def timing(spec: DatasetSpec, steps: int, *, fps: float, duration: float) -> Timing:
    """Where the features of a video lie, after downsampling and resizing.

    Resized features, and those that cover their video evenly (stride 0), are as wide as their stride: the
    frames that the file covers, divided by the steps that are left (as in ActionFormer).

    Args:
        spec: the dataset.
        steps: features of the video that downsampling leaves.
        fps: of the video.
        duration: of the video, in seconds.
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
    """Seconds → grid position: (t · fps − offset − 0.5 · window) / stride."""
    return np.asarray((np.asarray(seconds, dtype=np.float64) * fps - offset - 0.5 * window) / stride)


def to_seconds(
    grid: NDArray[Any], fps: float, stride: float, window: float, offset: float = 0.0
) -> NDArray[np.float64]:
    """Grid position → seconds: (x · stride + offset + 0.5 · window) / fps."""
    return np.asarray((np.asarray(grid, dtype=np.float64) * stride + offset + 0.5 * window) / fps)


def resized(values: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Interpolate [T, C] linearly to [length, C]; ends of the sequence are the ends of its outer steps.

    The same as `torch.nn.functional.interpolate(mode="linear", align_corners=False)`.
    """
    steps = len(values)
    if steps == length:
        return values
    at = np.clip((np.arange(length) + 0.5) * steps / length - 0.5, 0.0, steps - 1.0)
    low = np.minimum(at.astype(np.int64), max(steps - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    result: NDArray[np.float32] = values[low] * (1 - share) + values[np.minimum(low + 1, steps - 1)] * share
    return result
