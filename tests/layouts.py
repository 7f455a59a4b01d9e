"""Datasets of noise in the layouts of registered datasets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tal_bench.config import DatasetSpec
from tal_bench.data.features import feature_paths
from tal_bench.data.registry import datasets

EXTERNAL_DATASETS = [name for name in datasets if datasets.get(name).prepare is None]
"""Registered datasets that users download."""
FPS = 30.0
CLASSES = ("climb_up", "Long Jump", "wave")


def write_layout(
    name: str,
    folder: Path,
    *,
    videos: int = 3,
    steps: tuple[int, int] = (40, 64),
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write annotations, features and external scores in the layout of a preset.

    Args:
        name: Name of the registered dataset.
        folder: Folder of the dataset, which is created.
        videos: Number of videos of each split.
        steps: Length of the shortest and of the longest video.
        changes: Keys of the dataset file that override the preset.

    Returns:
        YAML file of the dataset, in the folder.
    """
    random = np.random.default_rng(3)
    spec = datasets.get(name).spec(folder)
    database: dict[str, Any] = {}
    for split, subset in (("train", spec.train[0]), ("test", spec.test[0])):
        for index in range(videos):
            video, length = f"{split}_{index:03d}", int(random.integers(*steps, endpoint=True))
            database[video] = _entry(spec, name, subset.capitalize(), length, random)
            write_features(spec, video, length, random)
    spec.annotations.parent.mkdir(parents=True, exist_ok=True)
    spec.annotations.write_text(json.dumps({"version": "x", "database": database}), encoding="utf-8")
    if spec.scores is not None:
        results = {video: random.random(len(CLASSES)).tolist() for video in database if "test" in video}
        spec.scores.parent.mkdir(parents=True, exist_ok=True)
        spec.scores.write_text(json.dumps({"results": results, "class": list(CLASSES)}), encoding="utf-8")
    file = folder / "dataset.yaml"
    file.write_text(yaml.safe_dump({"preset": name, **(changes or {})}), encoding="utf-8")
    return file


def write_features(spec: DatasetSpec, video: str, steps: int, random: np.random.Generator) -> None:
    """Write the files of a video for every stream, as wide as its streams require: float16 noise >= 0."""
    widths: dict[Path, int] = {}
    for modality in spec.modalities.values():
        for path in feature_paths(modality, video):
            width = modality.columns[1] if modality.columns else modality.channels
            widths[path] = max(widths.get(path, 0), width)
    for path, width in widths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        values = random.random((steps, width), dtype=np.float32).astype(np.float16)
        if path.suffix == ".npz":
            np.savez(path, feats=values)
        elif path.suffix == ".pt":
            torch.save(torch.from_numpy(values), path)
        else:
            np.save(path, values)


def _entry(
    spec: DatasetSpec, name: str, subset: str, steps: int, random: np.random.Generator
) -> dict[str, Any]:
    """Return the annotations of a video; OpenTAD's have no `label_id`, and `frame` instead of `fps`."""
    fps = spec.fps or FPS
    duration = (steps * (spec.stride or 16) + spec.window) / fps
    starts = np.sort(random.uniform(0.0, 0.8 * duration, 3))
    annotations = [
        {"segment": [float(start), float(start + 0.15 * duration)], "label": label, "label_id": number}
        for number, (start, label) in enumerate(zip(starts, CLASSES, strict=True))
    ]
    if "opentad" not in name:
        return {"subset": subset, "duration": duration, "fps": fps, "annotations": annotations}
    for annotation in annotations:
        del annotation["label_id"]
    unclear = {"segment": [0.1, 0.2], "label": "Ambiguous"}
    return {
        "subset": subset,
        "duration": duration,
        "frame": round(duration * fps),
        "annotations": [*annotations, *([unclear] if spec.ignore_labels else [])],
    }
