"""The dataset `hapt`: inertial recordings of activities, read from files of the user or from a package."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.data.registry import DatasetEntry, Progress, datasets

COARSEST = 32
"""Stride of the last of six pyramid levels; padded lengths are multiples of it."""
STRICT = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""tIoU 0.5:0.05:0.95, reported in addition."""


def _prepare(
    cache_dir: Path | None, *, jobs: int = 1, progress: Progress | None = None, source: Path | None = None
) -> Path:
    from tal_bench.data.datasets.hapt.prepare import prepare

    return prepare(cache_dir, jobs=jobs, progress=progress, source=source)


def _spec(folder: Path) -> DatasetSpec:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    channels: dict[str, int] = manifest["channels"]
    return DatasetSpec(
        name="hapt",
        annotations=folder / "annotations.json",
        modalities={
            "acc": ModalitySpec(role="primary", folder=folder / "acc", channels=channels["acc"]),
            "gyro": ModalitySpec(role="privileged", folder=folder / "gyro", channels=channels["gyro"]),
        },
        stride=manifest["stride"],
        window=manifest["window"],
        train=("training", "validation"),
        validation=("validation",),
        test=("test",),
        groups=r"_user(\d+)$",
        max_length=math.ceil(manifest["longest"] / COARSEST) * COARSEST,
        size="small",
        tiou_beside=STRICT,
        training={"warmup_epochs": 3, "epochs": 17, "lr": 8e-3, "validate_every": 5},
    )


def _minute_work() -> dict[str, Callable[[], object]]:
    from tal_bench.data.datasets.hapt.minute import minute_work

    return minute_work()


datasets.add(
    "hapt",
    DatasetEntry(
        "hapt",
        "people's activities and postural transitions, from a phone's accelerometer and gyroscope; not video",
        _spec,
        prepare=_prepare,
        source="a directory or ZIP file with UCI's acc_expNN_userNN.txt, gyro_… and labels.txt",
        minute_work=_minute_work,
    ),
)
