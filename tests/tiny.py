"""Dataset that is small enough to train on in a test, its specs, and random batches of its shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml

from tal_bench.config import DatasetSpec, ModalitySpec, TrainSpec
from tal_bench.types import Batch

FPS, STRIDE, WINDOW = 10.0, 5.0, 10.0
STEPS = (40, 64)
"""Length of the shortest and of the longest video in steps; the latter is the `max_length`."""
LABELS = ("jump", "run", "throw")
Streams = Mapping[str, tuple[Literal["primary", "privileged"], int]]
RGB_FLOW: Streams = {"rgb": ("primary", 8), "flow": ("privileged", 6)}


def write_dataset(folder: Path, streams: Streams = RGB_FLOW, train: int = 6, test: int = 4) -> Path:
    """Write a dataset whose features depend on the active class, most in privileged streams.

    Returns:
        YAML file of the dataset, which has the name of the folder.
    """
    random = np.random.default_rng(7)
    folder.mkdir(parents=True)
    for stream in streams:
        (folder / stream).mkdir()
    database = {}
    for index in range(train + test):
        steps = int(random.integers(*STEPS, endpoint=True))
        active = np.zeros((steps, len(LABELS)), dtype=np.float32)
        annotations = []
        for first in range(2, steps - 12, 16):
            start, label = first + int(random.integers(0, 4)), int(random.integers(len(LABELS)))
            end = start + int(random.integers(4, 9))
            active[start : end + 1, label] = 1.0
            seconds = [(x * STRIDE + 0.5 * WINDOW) / FPS for x in (start, end)]
            annotations.append({"segment": seconds, "label": LABELS[label]})
        name = f"video_{index:02d}"
        for stream, (role, width) in streams.items():
            signal = (
                (2.0 if role == "privileged" else 0.7) * active @ random.normal(size=(len(LABELS), width))
            )
            noise = random.normal(scale=0.5, size=(steps, width))
            np.save(folder / stream / f"{name}.npy", (signal + noise).astype(np.float32))
        database[name] = {
            "subset": "training" if index < train else "test",
            "duration": (steps * STRIDE + WINDOW) / FPS,
            "fps": FPS,
            "annotations": annotations,
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    value = {
        "name": folder.name,
        "annotations": "annotations.json",
        "stride": STRIDE,
        "window": WINDOW,
        "max_length": STEPS[1],
        "size": "small",
        "modalities": {
            stream: {"role": role, "folder": stream, "channels": width}
            for stream, (role, width) in streams.items()
        },
    }
    file = folder / "dataset.yaml"
    file.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
    return file


def tiny_spec(
    streams: Streams = RGB_FLOW,
    folder: Path = Path(),
    *,
    max_length: int = STEPS[1],
    size: Literal["small", "full"] = "small",
) -> DatasetSpec:
    """Return the spec of a dataset without files."""
    return DatasetSpec(
        name="tiny",
        annotations=folder / "annotations.json",
        modalities={
            name: ModalitySpec(role=role, folder=folder / name, channels=width)
            for name, (role, width) in streams.items()
        },
        stride=STRIDE,
        window=WINDOW,
        max_length=max_length,
        size=size,
    )


def random_batch(streams: Streams = RGB_FLOW, lengths: tuple[int, ...] = (64, 37), seed: int = 0) -> Batch:
    """Return a batch of noise, zero where padded, with two labelled segments per video."""
    generator = torch.Generator().manual_seed(seed)
    T = STEPS[1]
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    features = {
        name: torch.randn(len(lengths), width, T, generator=generator) * mask[:, None]
        for name, (_, width) in streams.items()
    }
    segments = torch.tensor([[[3.0, 9.0], [12.0, length - 4.0]] for length in lengths])
    return Batch(features, mask, segments, torch.tensor([[0, 2] for _ in lengths]), [])


FAST = TrainSpec(epochs=1, warmup_epochs=0, batch_size=2, lr=1e-3, ema=0.9, loss_normalizer=10.0)
"""One epoch on a few videos."""


STUDY = Path("reports") / "two-by-two-tiny-smoke"
"""Folder of the results of `study_words` for a dataset named `tiny`."""


def study_words(dataset: Path, *more: str) -> list[str | Path]:
    """Return the command line of the main comparison on a dataset."""
    return [
        "ablate",
        "--dataset",
        dataset,
        "--variant",
        "both",
        "--budget",
        "smoke",
        "--device",
        "cpu",
        *more,
    ]
