"""Prepared features of the sprites dataset, made once and cached by content."""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from tal_bench.config.extraction import FILE as EXTRACTION_FILE
from tal_bench.config.extraction import Extraction, read_extraction
from tal_bench.data.datasets.sprites.extract import Progress, embed_all, load_vectors, scenes
from tal_bench.data.datasets.sprites.settings import GENERATOR_VERSION, LABELS, SpritesSettings
from tal_bench.data.datasets.sprites.statistics import ridge_r2
from tal_bench.data.datasets.sprites.streams import WINDOW, extraction_of
from tal_bench.errors import InputError
from tal_bench.extraction.pca import Pca, fit_pca
from tal_bench.extraction.shipped_networks import STREAMS, load_networks, weights_hash
from tal_bench.extraction.workers import one_thread
from tal_bench.system.cache_folder import default_cache_dir, locked, publish, sweep, write_json
from tal_bench.system.step_timer import StepTimer

LAYOUT = "2"
"""Raised when the folder has other files, for the same features."""


def prepare(
    cache_dir: Path | None = None,
    *,
    jobs: int = 2,
    progress: Progress | None = None,
    settings: SpritesSettings | None = None,
) -> Path:
    """Make the dataset's annotations and features, or return them at once when they are there.

    Videos are rendered, observed and embedded one per worker at a time; only features leave a worker.
    Every file appears whole or not at all, finished videos survive an interruption, and a second process
    that wants the same dataset waits for the first. The result does not depend on ``jobs``.

    Args:
        cache_dir: where the folder goes; ``default_cache_dir()`` if None.
        jobs: worker processes, one thread each; 1 works in this process. Workers are spawned: a script
            that calls this with more than 1 needs ``if __name__ == "__main__":``.
        progress: called with (videos done, videos in all).
        settings: the standard dataset if None.

    Returns:
        The folder ``sprites-<hash>`` with ``annotations.json``, ``manifest.json``, ``extraction.json``
        (which makes the same features of any video), ``rgb/<id>.npy`` and ``flow/<id>.npy`` ([T, C] float32).

    Raises:
        InputError: ``jobs`` below 1.
        DataError: the shipped weights are missing or of another network.
    """
    if jobs < 1:
        raise InputError(f"{jobs} jobs", where="--jobs", hint="give 1 or more")
    settings = settings or SpritesSettings()
    root = cache_dir or default_cache_dir()
    name = f"sprites-{settings.digest(weights_hash(), LAYOUT)}"
    target = root / name
    if (target / "manifest.json").exists():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{name}.lock") as alone:
        if alone:
            sweep(root, name)
        if not (target / "manifest.json").exists():
            _build(root, name, jobs, progress, settings)
    return target


def prepared_extraction(cache_dir: Path | None = None) -> Extraction:
    """What makes features of this dataset's kind; prepares the dataset, which projections are fitted on."""
    found = read_extraction(prepare(cache_dir) / EXTRACTION_FILE)
    assert found is not None  # `prepare` writes it
    return found


def make_annotations(settings: SpritesSettings) -> dict[str, Any]:
    """Return the ActivityNet-style annotations; segments in seconds."""
    database = {}
    for video, (subset, scene) in scenes(settings).items():
        segments = [
            {
                "segment": [round(e.start, 4), round(e.end, 4)],
                "label": LABELS[e.label_id],
                "label_id": e.label_id,
            }
            for e in scene.episodes
            if e.label_id is not None
        ]
        database[video] = {
            "subset": subset,
            "duration": scene.frames / settings.fps,
            "fps": float(settings.fps),
            "annotations": segments,
        }
    return {"version": f"sprites-{GENERATOR_VERSION}", "database": database}


def _build(root: Path, name: str, jobs: int, progress: Progress | None, settings: SpritesSettings) -> None:
    began = time.perf_counter()
    raw = root / f".{name}.partial"
    raw.mkdir(exist_ok=True)
    seconds = embed_all(raw, jobs, progress, settings)
    fresh = root / f".{name}.{uuid.uuid4().hex[:8]}"
    fresh.mkdir()
    try:
        with one_thread():
            clock = StepTimer()
            explained = _project(raw, fresh, settings)
            statistics = {
                "explained_variance": explained,
                "flow_from_rgb_r2": _flow_from_rgb(fresh, settings),
            }
            clock.lap("pca")
        seconds |= clock.seconds
        write_json(fresh / "annotations.json", make_annotations(settings))
        manifest = _manifest(settings, statistics, seconds, time.perf_counter() - began)
        write_json(fresh / "manifest.json", manifest)
        publish(fresh, root / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(raw, ignore_errors=True)


def _project(raw: Path, fresh: Path, settings: SpritesSettings) -> dict[str, float]:
    """Fit both PCAs on the training videos, write every video's features, and what made them."""
    members = scenes(settings)
    training = [video for video, (subset, _) in members.items() if subset == "training"]
    fitted: dict[str, Pca] = {}
    for stream, channels, power in (
        ("rgb", settings.rgb_channels, settings.rgb_power),
        ("flow", settings.flow_channels, settings.flow_power),
    ):
        vectors = (load_vectors(raw, video, stream) for video in training)
        pca = fitted[stream] = fit_pca(vectors, channels, power, load_networks()[stream].blocks)
        (fresh / stream).mkdir()
        for video in members:
            np.save(
                fresh / stream / f"{video}.npy", pca(load_vectors(raw, video, stream)), allow_pickle=False
            )
    write_json(fresh / EXTRACTION_FILE, extraction_of(settings, fitted).model_dump(mode="json"))
    return {stream: round(pca.explained, 4) for stream, pca in fitted.items()}


def _flow_from_rgb(folder: Path, settings: SpritesSettings) -> float:
    """R² of the flow features of the last third of the training videos, from RGB, fitted on the others."""
    videos = [video for video, (subset, _) in scenes(settings).items() if subset == "training"]
    first = max(1, 2 * len(videos) // 3)
    parts = {
        (stream, part): np.concatenate([np.load(folder / stream / f"{video}.npy") for video in chosen])
        for stream in STREAMS
        for part, chosen in (("fit", videos[:first]), ("held", videos[first:]))
    }
    r2 = ridge_r2(parts["rgb", "fit"], parts["flow", "fit"], parts["rgb", "held"], parts["flow", "held"])
    return round(r2, 4)


def _manifest(
    settings: SpritesSettings, statistics: dict[str, Any], seconds: dict[str, float], wall: float
) -> dict[str, Any]:
    counts: dict[str, dict[str, float]] = {}
    for subset, scene in scenes(settings).values():
        row = counts.setdefault(subset, {"videos": 0, "segments": 0, "seconds": 0.0})
        row["videos"] += 1
        row["segments"] += sum(e.label_id is not None for e in scene.episodes)
        row["seconds"] += scene.frames / settings.fps
    return {
        "name": "sprites",
        "generator_version": GENERATOR_VERSION,
        "settings": asdict(settings),
        "weights": weights_hash(),
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__, "torch": torch.__version__},
        "fps": float(settings.fps),
        "stride": settings.stride,
        "window": WINDOW,
        "channels": {"rgb": settings.rgb_channels, "flow": settings.flow_channels},
        "classes": list(LABELS),
        "counts": counts,
        "statistics": statistics,
        "cpu_seconds": {step: round(value, 2) for step, value in seconds.items()},
        "wall_seconds": round(wall, 2),
    }
