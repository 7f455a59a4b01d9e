"""What features of a minute of video cost on the path they take: decoding, flow, each stream's network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch

from tal_bench.errors import DataError
from tal_bench.extraction.decoding import VideoReader
from tal_bench.extraction.features import Stream, extract
from tal_bench.extraction.workers import one_thread
from tal_bench.system.step_timer import StepTimer

MINUTE = 60.0
SAMPLE = {"dis": 10.0, "farneback": 5.0, "tvl1": 1.0}
"""Seconds of video that flow is measured on, by algorithm: a whole minute of TV-L1 would take minutes."""
SECONDS = 10.0


def extraction_cost(
    video: Path,
    streams: Mapping[str, Stream],
    flows: Mapping[str, str],
    *,
    fps: float | None,
    size: tuple[int, int],
    stride: int,
    window: int,
    batch: int,
    seconds: float = SECONDS,
    device: str = "cpu",
) -> dict[str, float]:
    """Measure the beginning of a video and scale it to a minute.

    On the CPU it is processor time on one thread, the smaller of two runs, the first also warming up. On CUDA
    it is the wall clock, with the device waited for at every step. TV-L1 is run once on a second of video.
    Decoding includes scaling and cutting the frames, a network's step its snippets.

    Args:
        video: the file; one shorter than ``seconds`` is measured as far as it goes.
        streams: name to what makes it, networks on the device.
        flows: stream name to algorithm, for those that see flow.
        fps: see `VideoReader`.
        size: likewise.
        stride: frames between two features.
        window: frames under one feature.
        batch: steps at once.
        seconds: of video that is measured; flow on at most `SAMPLE`.
        device: that the networks are on.

    Returns:
        Seconds: `decode`, `flow` where a stream sees any, `backbone/<stream>`.

    Raises:
        DataError: the video cannot be used, or is too short for one feature.
    """

    def measure(names: list[str], length: float) -> dict[str, float]:
        clock = StepTimer(now=clock_of(device))
        footage = VideoReader(video, fps=fps, size=size)
        frames = islice(footage, max(window, round(length * footage.fps)))
        chosen = {name: streams[name] for name in names}
        features = extract(frames, chosen, stride=stride, window=window, batch=batch, clock=clock)
        steps = len(next(iter(features.values())))
        if not steps:
            raise DataError(f"{footage.frames} frames: shorter than a window of {window}", where=video)
        minute = MINUTE * footage.fps
        scale = {"decode": minute / footage.frames}
        return {step: s * scale.get(step, minute / stride / steps) for step, s in clock.seconds.items()}

    with one_thread() if device == "cpu" else contextlib.nullcontext():
        cost: dict[str, float] = {}
        for name in streams:
            algorithm = flows.get(name, "")
            length = min(seconds, SAMPLE.get(algorithm, seconds))
            runs = [measure([name], length) for _ in range(1 if algorithm == "tvl1" else 2)]
            least = {step: min(run[step] for run in runs) for step in runs[0]}
            # frames are decoded once for all streams
            cost["decode"] = min(cost.get("decode", least["decode"]), least.pop("decode"))
            cost |= least
    return cost


def best_of(work: Callable[[], object], runs: int, device: str = "cpu") -> float:
    """Seconds of the fastest call."""
    now = clock_of(device)
    spent = []
    for _ in range(runs):
        began = now()
        work()
        spent.append(now() - began)
    return min(spent)


def clock_of(device: str) -> Callable[[], float]:
    """What time is read from: processor time of this process, or the wall clock once CUDA has finished."""
    if device == "cpu":
        return time.process_time

    def settled() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return settled


@contextlib.contextmanager
def made_up_video(size: int, fps: int, seconds: float = SECONDS) -> Iterator[Path]:
    """A rendered clip as a file (H.264, ``size`` × ``size``), for as long as the context lasts."""
    import tempfile

    from tal_bench.data.datasets.sprites.preview import write_mp4
    from tal_bench.data.datasets.sprites.render import render
    from tal_bench.data.datasets.sprites.scene import plan_clip, scene_rng
    from tal_bench.data.datasets.sprites.settings import SpritesSettings
    from tal_bench.extraction.snippets import resize_frames

    settings = SpritesSettings(fps=fps)
    scene = plan_clip(scene_rng(settings.seed, "extra", 0), settings, seconds)
    frames = resize_frames(render(scene, min(size, 128), fps), size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_mp4(path, frames, fps)
        yield path
