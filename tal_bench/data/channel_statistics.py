"""Mean and standard deviation of every channel of the features of a set of videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tal_bench.data.dataset import Video

STEPS = 256
"""Number of evenly spaced steps that are read of each video."""


def channel_statistics(videos: Sequence[Video]) -> dict[str, tuple[Tensor, Tensor]]:
    """Compute mean [C_m] and standard deviation [C_m] of the channels of every modality.

    At most `STEPS` evenly spaced steps of each video are read, so that features which are not in memory need
    not be read completely.

    Raises:
        DataError: A memory-mapped file has NaN at these steps, or has changed.
    """
    found = {}
    for name in videos[0].features:
        count, total, squares = 0, np.zeros(1), np.zeros(1)
        for video in videos:
            x = _evenly_spaced(video, name)
            count += len(x)
            total = total + x.sum(axis=0)
            squares = squares + np.square(x).sum(axis=0)
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 0.0)
        found[name] = (torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float())
    return found


def _evenly_spaced(video: Video, name: str) -> NDArray[np.float64]:
    every = max(1, -(-video.steps // STEPS))
    return video.crop(name, 0, video.steps, every).astype(np.float64)
