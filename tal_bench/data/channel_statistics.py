"""Mean, standard deviation and covariance of the channels of the features of a set of videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tal_bench.data.dataset import Video

STEPS = 256
"""Number of evenly spaced steps that are read of each video."""


FRAMES = 16384
"""Number of steps of all videos together, of which covariances are computed; at least one of each video."""


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


def channel_covariances(videos: Sequence[Video], names: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Compute mean [C_m] and covariance [C_m, C_m] of the channels of the named modalities, in float64.

    About `FRAMES` evenly spaced steps are read, and at most `STEPS` of each video.

    Raises:
        DataError: A memory-mapped file has NaN at these steps, or has changed.
    """
    steps, found = min(STEPS, -(-FRAMES // len(videos))), {}
    for name in names:
        x = np.concatenate([_evenly_spaced(video, name, steps) for video in videos])
        mean = x.mean(axis=0)
        x -= mean
        found[name] = (torch.from_numpy(mean), torch.from_numpy(x.T @ x / len(x)))
    return found


def _evenly_spaced(video: Video, name: str, steps: int = STEPS) -> NDArray[np.float64]:
    every = max(1, -(-video.steps // steps))
    return video.crop(name, 0, video.steps, every).astype(np.float64)
