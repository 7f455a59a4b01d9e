"""Extraction of the networks' vectors from scenes, video by video, in worker processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.sprites.render import render
from tal_bench.data.datasets.sprites.scene import Scene, plan_scene, scene_rng
from tal_bench.data.datasets.sprites.settings import SpritesSettings
from tal_bench.data.datasets.sprites.streams import BATCH, WINDOW, network_streams
from tal_bench.errors import InputError
from tal_bench.extraction.features import extract
from tal_bench.extraction.workers import map_items
from tal_bench.system.step_timer import StepTimer

Progress = Callable[[int, int], None]


def scenes(settings: SpritesSettings) -> dict[str, tuple[str, Scene]]:
    """Return subset and scene of each video by its id, training videos first."""
    planned: dict[str, tuple[str, Scene]] = {}
    for subset, count, seed in (
        ("training", settings.train_videos, settings.seed),
        ("test", settings.test_videos, settings.test_seed),
    ):
        for index in range(count):
            scene = plan_scene(scene_rng(seed, subset, index), settings)
            planned[f"sprites_{subset}_{index:04d}"] = (subset, scene)
    return planned


def embed_all(raw: Path, jobs: int, progress: Progress | None, settings: SpritesSettings) -> dict[str, float]:
    """Embed the videos without vectors; return CPU seconds by step, summed over workers."""
    ids = list(scenes(settings))
    pending = [video for video in ids if not (raw / f"{video}.npz").exists()]
    done = len(ids) - len(pending)
    seconds: dict[str, float] = {}

    def add(video_seconds: dict[str, float]) -> None:
        nonlocal done
        done += 1
        for step, value in video_seconds.items():
            seconds[step] = seconds.get(step, 0.0) + value
        if progress:
            progress(done, len(ids))

    work = partial(embed_video, raw, settings=settings)
    with closing(map_items(work, pending, jobs, _crashed)) as results:
        for video_seconds in results:
            add(video_seconds)
    return seconds


def _crashed(video: str) -> dict[str, float]:
    raise InputError(
        f"the worker process of {video} exited unexpectedly",
        where="--jobs",
        hint="free memory or use jobs=1; a script must call prepare inside if __name__ == '__main__':",
    )


def embed_video(raw: Path, video: str, settings: SpritesSettings) -> dict[str, float]:
    """Render one video and write the networks' vectors of both streams to ``raw/<video>.npz``.

    Returns:
        CPU seconds by step.
    """
    clock = StepTimer()
    frames = footage(video, settings)
    clock.lap("render")
    vectors = extract(
        frames, network_streams(settings), stride=settings.stride, window=WINDOW, batch=BATCH, clock=clock
    )
    partial_file = raw / f".{video}.{uuid.uuid4().hex[:8]}"
    with partial_file.open("wb") as file:
        np.savez(file, rgb=vectors["rgb"], flow=vectors["flow"])
    partial_file.replace(raw / f"{video}.npz")
    clock.lap("write")
    return clock.seconds


def footage(video: str, settings: SpritesSettings | None = None) -> NDArray[np.uint8]:
    """Render the frames [N, size, size, 3] of a video; the result is deterministic."""
    settings = settings or SpritesSettings()
    _, subset, index = video.split("_")
    seed = settings.test_seed if subset == "test" else settings.seed
    return render(plan_scene(scene_rng(seed, subset, int(index)), settings), settings.size, settings.fps)


def load_vectors(raw: Path, video: str, stream: str) -> NDArray[np.float32]:
    """Read the vectors [T, D] of one stream of a video, as written by ``embed_video``."""
    with np.load(raw / f"{video}.npz", allow_pickle=False) as file:
        vectors: NDArray[np.float32] = file[stream]
    return vectors
