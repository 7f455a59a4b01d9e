"""Measure the cost of extracting the features of a minute of video: decoding, flow, and each network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from tal_bench.errors import DataError
from tal_bench.extraction.decoding import VideoReader
from tal_bench.extraction.features import Stream, extract
from tal_bench.extraction.workers import one_thread
from tal_bench.profiling.latency import clock_of
from tal_bench.system.step_timer import StepTimer

MINUTE = 60.0
"""Seconds of video to which all costs refer."""
FLOW_SECONDS = {"dis": 10.0, "farneback": 5.0, "tvl1": 1.0}
"""Seconds of video on which flow is measured, by algorithm: a minute of video takes TV-L1 several minutes."""
SECONDS = 10.0
"""Seconds of video on which the other steps are measured."""


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
    """Measure the extraction of the beginning of a video, scaled to a minute of video.

    On the CPU, times are processor time on one thread, the minimum of two runs, of which the first also warms
    up. On CUDA, times are wall-clock time, synchronised at every step. TV-L1 is run once on a second of
    video. Decoding includes scaling and cropping the frames; a network's step includes cutting its snippets.

    Args:
        video: Video file; if shorter than ``seconds``, all of it is measured.
        streams: Streams by name, with networks on the device.
        flows: Flow algorithm by name of the stream, for streams that read flow.
        fps: Frames per second, see `VideoReader`.
        size: Size of the frames, see `VideoReader`.
        stride: Number of frames between two features.
        window: Number of frames covered by one feature.
        batch: Number of steps per forward pass.
        seconds: Seconds of video to measure; flow is measured on at most `FLOW_SECONDS`.
        device: Device of the networks.

    Returns:
        Seconds of `decode`, of `flow` if a stream reads flow, and of each `backbone/<stream>`.

    Raises:
        DataError: The video cannot be used, or is too short for one feature.
    """

    def measure(names: list[str], length: float) -> dict[str, float]:
        clock = StepTimer(now=clock_of(device))
        reader = VideoReader(video, fps=fps, size=size)
        frames = islice(reader, max(window, round(length * reader.fps)))
        selected = {name: streams[name] for name in names}
        features = extract(frames, selected, stride=stride, window=window, batch=batch, clock=clock)
        steps = len(next(iter(features.values())))
        if not steps:
            raise DataError(f"{reader.frames} frames: shorter than a window of {window}", where=video)
        frames_per_minute = MINUTE * reader.fps
        scale = {"decode": frames_per_minute / reader.frames}
        return {
            step: s * scale.get(step, frames_per_minute / stride / steps) for step, s in clock.seconds.items()
        }

    with one_thread() if device == "cpu" else contextlib.nullcontext():
        cost: dict[str, float] = {}
        for name in streams:
            algorithm = flows.get(name, "")
            length = min(seconds, FLOW_SECONDS.get(algorithm, seconds))
            runs = [measure([name], length) for _ in range(1 if algorithm == "tvl1" else 2)]
            fastest = {step: min(run[step] for run in runs) for step in runs[0]}
            # frames are decoded once for all streams
            cost["decode"] = min(cost.get("decode", fastest["decode"]), fastest.pop("decode"))
            cost |= fastest
    return cost


@contextlib.contextmanager
def synthetic_video(size: int, fps: int, seconds: float = SECONDS) -> Iterator[Path]:
    """Provide a rendered clip (H.264, ``size`` × ``size``) as a temporary file."""
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
