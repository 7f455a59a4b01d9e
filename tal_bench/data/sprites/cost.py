"""What a minute of video costs before any detector runs: decoding, flow, and each stream's network."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.sprites.extract import one_thread
from tal_bench.data.sprites.networks import load_networks
from tal_bench.data.sprites.observe import FLOW_SIZE
from tal_bench.data.sprites.preview import write_mp4
from tal_bench.data.sprites.render import render
from tal_bench.data.sprites.scene import plan_clip, scene_rng
from tal_bench.data.sprites.settings import SpritesSettings
from tal_bench.data.video.backbone import embed
from tal_bench.data.video.flow import compute_flow
from tal_bench.data.video.snippets import (
    difference_snippets,
    flow_snippets,
    resize_frames,
    step_flow,
    to_grey,
)

TVL1_PAIRS = 24
"""TV-L1 is measured on this many frame pairs and scaled up: a whole minute would take minutes."""


def minute_cost(flow: str | None = "dis", *, seconds: float = 20.0) -> dict[str, float]:
    """Measure CPU seconds, on one thread, for a minute of sprites video.

    A clip is encoded as H.264 and decoded again with PyAV; decoding includes the grey and resized frames.
    Each figure is the smaller of two runs, the first also warming up, scaled to 60 s of video. TV-L1 is
    timed once on 24 frame pairs and scaled. At 64 × 64 all are small: what carries over is their ratio.

    Args:
        flow: ``dis``, ``farneback``, ``tvl1``, or None for what an RGB-only model pays.
        seconds: length of the clip.

    Returns:
        ``decode`` and ``rgb_backbone``, and unless ``flow`` is None ``flow`` and ``flow_backbone``;
        ``total`` is their sum.
    """
    settings = SpritesSettings()
    scene = plan_clip(scene_rng(settings.seed, "extra", 0), settings, seconds)
    scale = 60.0 * settings.fps / scene.frames
    nets = load_networks()
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_mp4(path, render(scene, settings.size, settings.fps), settings.fps)
        cost = {"decode": scale * _best(lambda: _decode(path, settings))}
        grey, small, colour = _decode(path, settings)
        steps = len(colour)
        cost["rgb_backbone"] = scale * _best(
            lambda: embed(
                nets["rgb"], lambda at: difference_snippets(small, colour, at, settings.stride), steps
            )
        )
        if flow is not None:
            cost["flow"] = _flow_cost(grey, flow, settings, scale)
            fields = step_flow(grey, settings.stride, size=FLOW_SIZE)
            cost["flow_backbone"] = scale * _best(
                lambda: embed(nets["flow"], lambda at: flow_snippets(fields, at), steps)
            )
    cost["total"] = sum(cost.values())
    return cost


def _flow_cost(grey: NDArray[np.uint8], algorithm: str, settings: SpritesSettings, scale: float) -> float:
    if algorithm != "tvl1":
        return scale * _best(lambda: step_flow(grey, settings.stride, algorithm, FLOW_SIZE))
    pairs = min(TVL1_PAIRS, (len(grey) - 1) // settings.stride)
    sample = grey[: pairs * settings.stride + 1]
    minute = 60.0 * settings.fps / settings.stride
    return minute / pairs * _best(lambda: compute_flow(sample, algorithm, step=settings.stride), runs=1)


def _decode(path: Path, settings: SpritesSettings) -> tuple[NDArray[np.uint8], ...]:
    """All grey frames at full and at network size, and the colour frames of the steps."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    grey = to_grey(frames)
    colour = resize_frames(frames[:: settings.stride], settings.net_size)
    return grey, resize_frames(grey, settings.net_size), colour


def _best(work: Callable[[], object], runs: int = 2) -> float:
    spent = []
    for _ in range(runs):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)
