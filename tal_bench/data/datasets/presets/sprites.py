"""The dataset `sprites`: rendered videos, generated on the user's machine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.data.registry import DatasetEntry, Progress, datasets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COARSEST = 32
"""Stride of the last of six pyramid levels; padded lengths are multiples of it."""


def _prepare(cache_dir: Path | None, *, jobs: int = 1, progress: Progress | None = None) -> Path:
    from tal_bench.data.datasets.sprites.prepare import prepare

    return prepare(cache_dir, jobs=jobs, progress=progress)


def _spec(folder: Path) -> DatasetSpec:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    database = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["database"]
    rate = manifest["fps"] / manifest["stride"]
    longest = max(video["duration"] * rate for video in database.values())
    channels: dict[str, int] = manifest["channels"]
    return DatasetSpec(
        name="sprites",
        annotations=folder / "annotations.json",
        modalities={
            "rgb": ModalitySpec(role="primary", folder=folder / "rgb", channels=channels["rgb"]),
            "flow": ModalitySpec(role="privileged", folder=folder / "flow", channels=channels["flow"]),
        },
        stride=manifest["stride"],
        window=manifest["window"],
        max_length=math.ceil(longest / COARSEST) * COARSEST,
        size="small",
    )


def _footage(video: str) -> NDArray[np.uint8]:
    from tal_bench.data.datasets.sprites.extract import footage

    return footage(video)


datasets.add(
    "sprites",
    DatasetEntry(
        "sprites",
        "rendered videos of moving shapes, generated on this machine; appearance in RGB, direction in flow",
        _spec,
        prepare=_prepare,
        footage=_footage,
    ),
)
