"""Batches from each source: the same as on the host, and the time that each takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from published import BATCH, batch

from tal_bench.config import TrainSpec
from tal_bench.data.batches import Crops, collate, training_crops
from tal_bench.profiling.latency import synchronise
from tal_bench.training.batch_sources.choice import BatchSource, prediction_source
from tal_bench.training.batch_sources.resident import ResidentFeatures
from tal_bench.training.device import Device, batch_tensors

from .rows import Check, Row, Settings
from .speed import as_videos

VIDEOS, EPOCHS = 16, 8


def sources(settings: Settings) -> Iterator[Row]:
    """Read epochs of random crops from resident features, and as where features do not fit on the device."""
    device = Device(settings.device)
    videos = as_videos(batch(VIDEOS, settings.frames))
    modalities = tuple(videos[0].features)
    generator = np.random.default_rng(0)
    spec = TrainSpec(batch_size=BATCH)
    drawn = [
        crops
        for _ in range(EPOCHS)
        for crops in training_crops(videos, spec=spec, max_length=settings.frames, generator=generator)
    ]
    names: dict[str, BatchSource] = {
        "batches from device memory": ResidentFeatures(videos, device),
        "batches from host memory": prediction_source(modalities, device),
    }
    for name, source in names.items():
        _compare(source, drawn[: VIDEOS // BATCH], modalities)
        began = time.perf_counter()
        for _ in source(iter(drawn)):
            pass
        synchronise(device.torch)
        milliseconds = 1e3 * (time.perf_counter() - began) / len(drawn)
        note = f"batches of {BATCH} videos, {len(modalities)} streams, equal to those of the host"
        yield Row(name, value=milliseconds, unit="ms", note=note)


def _compare(source: BatchSource, drawn: list[Crops], modalities: tuple[str, ...]) -> None:
    """Compare batches on the device with those that are made on the host.

    Raises:
        RuntimeError: They differ.
    """
    for found, crops in zip(source(iter(drawn)), drawn, strict=True):
        expected = batch_tensors(collate(crops, modalities))
        wrong = [name for name, x in batch_tensors(found).items() if not torch.equal(x.cpu(), expected[name])]
        if wrong:
            raise RuntimeError(f"{', '.join(wrong)} of a batch differ from those of the host")


CHECKS = [Check("batches", sources)]
