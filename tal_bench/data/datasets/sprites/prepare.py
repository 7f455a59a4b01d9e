"""Preparation of the features of the sprites dataset, cached by content."""

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
"""Version of the folder's layout, increased when its files change but its features do not."""


def prepare(
    cache_dir: Path | None = None,
    *,
    jobs: int = 2,
    progress: Progress | None = None,
    settings: SpritesSettings | None = None,
) -> Path:
    """Generate the dataset's annotations and features, or return the cached folder.

    Each worker renders and embeds one video at a time. Files are written atomically, finished videos are kept
    when the preparation is interrupted, and a second process that prepares the same dataset waits for the
    first. The result does not depend on ``jobs``.

    Args:
        cache_dir: Parent of the folder; ``default_cache_dir()`` if None.
        jobs: Number of worker processes, with one thread each; 1 = no worker processes. Workers are spawned:
            a script that calls this with more than 1 needs ``if __name__ == "__main__":``.
        progress: Callback that receives (videos done, all videos).
        settings: Settings of the dataset; the default ones if None.

    Returns:
        Folder ``sprites-<hash>`` with ``annotations.json``, ``manifest.json``, ``extraction.json`` (settings
        that extract the same features from any video), ``rgb/<id>.npy`` and ``flow/<id>.npy`` ([T, C]
        float32).

    Raises:
        InputError: ``jobs`` is below 1.
        DataError: The shipped weights are missing or belong to another network.
    """
    if jobs < 1:
        raise InputError(f"must be at least 1, got {jobs}", where="--jobs")
    settings = settings or SpritesSettings()
    root = cache_dir or default_cache_dir()
    name = f"sprites-{settings.digest(weights_hash(), LAYOUT)}"
    target = root / name
    if (target / "manifest.json").exists():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{name}.lock") as exclusive:
        if exclusive:
            sweep(root, name)
        if not (target / "manifest.json").exists():
            _build(root, name, jobs, progress, settings)
    return target


def prepared_extraction(cache_dir: Path | None = None) -> Extraction:
    """Return the settings of the extraction; prepares the dataset, on which projections are fitted."""
    extraction = read_extraction(prepare(cache_dir) / EXTRACTION_FILE)
    assert extraction is not None  # `prepare` writes it
    return extraction


def make_annotations(settings: SpritesSettings) -> dict[str, Any]:
    """Return the ActivityNet-style annotations, with segments in seconds."""
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
    start = time.perf_counter()
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
        manifest = _manifest(settings, statistics, seconds, time.perf_counter() - start)
        write_json(fresh / "manifest.json", manifest)
        publish(fresh, root / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(raw, ignore_errors=True)


def _project(raw: Path, fresh: Path, settings: SpritesSettings) -> dict[str, float]:
    """Fit both PCAs on the training videos, and write all features and the settings of the extraction."""
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
    """Return R² of predicting the flow features of the last third of the training videos from RGB."""
    videos = [video for video, (subset, _) in scenes(settings).items() if subset == "training"]
    first = max(1, 2 * len(videos) // 3)
    parts = {
        (stream, part): np.concatenate([np.load(folder / stream / f"{video}.npy") for video in ids])
        for stream in STREAMS
        for part, ids in (("fit", videos[:first]), ("held", videos[first:]))
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
