"""From scenes to the networks' vectors, video by video, in worker processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tal_bench.data.sprites.networks import load_networks
from tal_bench.data.sprites.observe import Clock, observe
from tal_bench.data.sprites.scene import Scene, plan_scene, scene_rng
from tal_bench.data.sprites.settings import SpritesSettings
from tal_bench.data.video.backbone import embed
from tal_bench.errors import InputError

Progress = Callable[[int, int], None]


def scenes(settings: SpritesSettings) -> dict[str, tuple[str, Scene]]:
    """Every video's id → (subset, scene), training videos first."""
    found: dict[str, tuple[str, Scene]] = {}
    for subset, count, seed in (
        ("training", settings.train_videos, settings.seed),
        ("test", settings.test_videos, settings.test_seed),
    ):
        for index in range(count):
            scene = plan_scene(scene_rng(seed, subset, index), settings)
            found[f"sprites_{subset}_{index:04d}"] = (subset, scene)
    return found


def embed_all(raw: Path, jobs: int, progress: Progress | None, settings: SpritesSettings) -> dict[str, float]:
    """Embed the videos that are not there yet; returns CPU seconds by step, summed over workers."""
    ids = list(scenes(settings))
    waiting = [video for video in ids if not (raw / f"{video}.npz").exists()]
    done = len(ids) - len(waiting)
    seconds: dict[str, float] = {}

    def finished(spent: dict[str, float]) -> None:
        nonlocal done
        done += 1
        for step, value in spent.items():
            seconds[step] = seconds.get(step, 0.0) + value
        if progress:
            progress(done, len(ids))

    if jobs == 1 or len(waiting) < 2:
        with one_thread():
            for video in waiting:
                finished(embed_video(raw, video, settings))
        return seconds
    context = multiprocessing.get_context("spawn")
    workers = min(jobs, len(waiting))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        futures = [pool.submit(embed_video, raw, video, settings) for video in waiting]
        try:
            for future in as_completed(futures):
                finished(future.result())
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process ended before its work was done",
                where="--jobs",
                hint="free memory or use jobs=1; a script must call prepare under if __name__ == '__main__':",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return seconds


def _start_worker() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch and OpenCV on one thread: results are then the same on every number of cores."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)


def embed_video(raw: Path, video: str, settings: SpritesSettings) -> dict[str, float]:
    """Render one video and write the networks' vectors of both streams to ``raw/<video>.npz``.

    Returns:
        CPU seconds by step.
    """
    clock = Clock()
    _, subset, index = video.split("_")
    seed = settings.test_seed if subset == "test" else settings.seed
    scene = plan_scene(scene_rng(seed, subset, int(index)), settings)
    seen = observe(scene, settings, clock)
    nets = load_networks()
    vectors = {}
    for stream, cut in (("rgb", seen.rgb), ("flow", seen.motion)):
        vectors[stream] = embed(nets[stream], cut, seen.steps)
        clock.lap(f"{stream}-net")
    partial = raw / f".{video}.{uuid.uuid4().hex[:8]}"
    with partial.open("wb") as file:
        np.savez(file, rgb=vectors["rgb"], flow=vectors["flow"])
    partial.replace(raw / f"{video}.npz")
    clock.lap("write")
    return clock.seconds


def load_vectors(raw: Path, video: str, stream: str) -> NDArray[np.float32]:
    """Read one stream of a video that ``embed_video`` wrote, [T, D]."""
    with np.load(raw / f"{video}.npz", allow_pickle=False) as file:
        vectors: NDArray[np.float32] = file[stream]
    return vectors
