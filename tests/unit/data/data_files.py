"""Small datasets on disk for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tal_bench.config import DatasetSpec, ModalitySpec

FPS, STRIDE, WINDOW = 8.0, 2.0, 4.0


def entry(steps: int, segments: list[tuple[float, float, str]], subset: str = "training") -> dict[str, Any]:
    return {
        "subset": subset,
        "duration": steps * STRIDE / FPS,
        "fps": FPS,
        "annotations": [{"segment": [s, e], "label": label} for s, e, label in segments],
    }


def write_json(path: Path, database: object) -> Path:
    path.write_text(json.dumps({"database": database}), encoding="utf-8")
    return path


def small_dataset(folder: Path, train: int = 9, test: int = 4, *, half: bool = False) -> DatasetSpec:
    """Videos of 40 to 80 steps with streams rgb [T, 6] and flow [T, 2]; each value [t, c] encodes t and c."""
    random = np.random.default_rng(0)
    database = {}
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir()
    for index in range(train + test):
        steps = int(random.integers(40, 81))
        name = f"v{index:02d}"
        duration = steps * STRIDE / FPS
        middle = float(random.uniform(0.3, 0.7)) * duration
        segments = [(1.0, 3.0, "jump"), (middle, middle + 2.0, "run")]
        database[name] = entry(steps, segments, "Training" if index < train else "test")
        for stream, width in (("rgb", 6), ("flow", 2)):
            values = np.arange(steps)[:, None] + 1.0 + index / 4 + 100.0 * np.arange(width)
            np.save(folder / stream / f"{name}.npy", values.astype(np.float16 if half else np.float32))
    return DatasetSpec(
        name="small",
        annotations=write_json(folder / "annotations.json", database),
        modalities={
            "rgb": ModalitySpec(role="primary", folder=folder / "rgb", channels=6),
            "flow": ModalitySpec(role="privileged", folder=folder / "flow", channels=2),
        },
        stride=STRIDE,
        window=WINDOW,
        max_length=64,
        size="small",
    )
