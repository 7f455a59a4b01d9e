"""Where the batches of a training or a prediction come from: host memory, pinned memory or that of a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch

from tal_bench.data.batches import Crops, collate
from tal_bench.data.dataset import Video
from tal_bench.data.prefetch import prefetched
from tal_bench.system.gpus import room_for_features
from tal_bench.training.batch_sources.resident import ResidentFeatures, features_nbytes
from tal_bench.training.batch_sources.ring import CopyStream, pinned_ring
from tal_bench.training.device import Device
from tal_bench.types import Batch

LOG = logging.getLogger(__name__)
BatchSource = Callable[[Iterable[Crops]], Iterator[Batch]]
"""Function from the crops of batches to these batches on the device."""


def training_source(videos: Sequence[Video], device: Device) -> BatchSource:
    """Return where the batches of a training come from.

    On the CPU a thread reads the next batch. On a GPU all features are copied there once if they fit
    (`system.gpus.room_for_features`); otherwise batches are read ahead into pinned memory.

    Args:
        videos: Training videos, which are read in every epoch.
        device: Device of the training.
    """
    modalities = tuple(videos[0].features)
    if device.torch.type == "cpu":
        return lambda drawn: prefetched(drawn, partial(collate, modalities=modalities))
    if features_nbytes(videos) <= room_for_features(device.torch):
        try:
            return ResidentFeatures(videos, device)
        except torch.OutOfMemoryError:
            LOG.info("features do not fit into GPU memory, and are read for every batch")
    return prediction_source(modalities, device)


def prediction_source(modalities: Sequence[str], device: Device) -> BatchSource:
    """Return where the batches of a prediction come from, which reads every video once.

    On a GPU they are read ahead into pinned memory; on the CPU, where a worker has one core, when needed.
    """
    if device.torch.type == "cpu":
        return partial(map, partial(collate, modalities=modalities))
    return lambda drawn: pinned_ring(drawn, modalities, device, CopyStream(device).send)
