"""Extract features from frames; used for video files, rendered videos and cost measurements alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tal_bench.extraction.backbone import embed
from tal_bench.extraction.snippet_sampler import SnippetSampler
from tal_bench.system.step_timer import StepTimer

EXCERPT_BYTES = 32 * 2**20
"""Bytes of colour frames in memory at a time; their flow fields take another 2.7 times as much."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Stream:
    """Sampler, network and projection that produce one stream of features.

    Attributes:
        sampler: Sampler of the network's snippets.
        net: Network in evaluation mode; maps snippets [M, C, H, W] to vectors [M, D].
        project: Function that maps vectors [T, D] to features [T, C].
        precision: Precision of the network's products.
    """

    sampler: SnippetSampler
    net: nn.Module
    project: Callable[[Features], Features] = lambda vectors: vectors
    precision: str = "fp32"


def extract(
    frames: Iterable[NDArray[np.uint8]],
    streams: Mapping[str, Stream],
    *,
    stride: int,
    window: int,
    batch: int,
    clock: StepTimer | None = None,
) -> dict[str, Features]:
    """Extract the features of a video of any length; only a few dozen megabytes of frames are in memory.

    On a GPU the vectors stay there until the end of the video (100 MB for an hour with 1280 channels), where
    the host waits for it and copies them.

    Args:
        frames: RGB frames [H, W, 3], all of the same size.
        streams: Streams by name.
        stride: Number of frames between two features.
        window: Number of frames covered by one feature.
        batch: Number of steps per forward pass. Which steps share a batch does not depend on the length of
            the video.
        clock: Timer for the laps `decode` (frames, resizing), `flow` and `backbone/<stream>`.

    Returns:
        Features [T, C] by stream; T = (N - window) // stride + 1, and 0 if N < window.
    """
    clock = clock or StepTimer()
    context = max(stream.sampler.context_frames for stream in streams.values())
    parts: dict[str, list[Tensor]] = {name: [] for name in streams}
    for excerpt, first, steps in excerpts(
        frames, stride=stride, window=window, context_frames=context, batch=batch
    ):
        clock.lap("decode")
        for name, stream in streams.items():
            snippets = stream.sampler.prepare(excerpt)
            clock.lap(stream.sampler.cost_step)
            shifted = lambda numbers, snippets=snippets, first=first: snippets(numbers + first)  # noqa: E731
            parts[name].append(embed(stream.net, shifted, steps, batch, stream.precision))
            clock.lap(f"backbone/{name}")
    clock.lap("decode")
    features = {}
    for name, stream in streams.items():
        found = parts.pop(name)
        features[name] = (
            stream.project(torch.cat(found).cpu().numpy()) if found else np.empty((0, 0), np.float32)
        )
        clock.lap(f"backbone/{name}")
    return features


def excerpts(
    frames: Iterable[NDArray[np.uint8]], *, stride: int, window: int, context_frames: int, batch: int
) -> Iterator[tuple[NDArray[np.uint8], int, int]]:
    """Split a video into overlapping excerpts, each with the frames that whole batches of steps depend on.

    An excerpt begins at a step and contains every frame that its new steps depend on, unless the video ends
    before. Treating it as a video of its own therefore gives the correct snippets for its new steps.

    Args:
        frames: Frames [H, W, 3].
        stride: Number of frames between two steps.
        window: Number of frames of a step.
        context_frames: Number of frames that a step depends on beyond either end of its window.
        batch: Divisor of the number of new steps of every excerpt but the last.

    Yields:
        Frames [n, H, W, 3], the number of the first new step within the excerpt, and the number of new
        steps.
    """
    remaining = iter(frames)
    buffer = list(islice(remaining, 1))
    if not buffer:
        return
    size = batch * max(1, EXCERPT_BYTES // (batch * stride * buffer[0].nbytes))  # steps of an excerpt
    begin = done = 0  # first frame in the buffer, and steps yielded so far
    left: int | None = None  # steps left, known once the video has ended
    while left is None or left > 0:
        needed = (done + size - 1) * stride + window + context_frames - begin
        buffer += islice(remaining, max(0, needed - len(buffer)))
        if len(buffer) < needed:
            left = (begin + len(buffer) - window) // stride + 1 - done
        steps = size if left is None else min(size, left)
        if steps > 0:
            yield np.stack(buffer), done - begin // stride, steps
        done += max(0, steps)
        left = None if left is None else left - steps
        keep = max(0, done - -(-context_frames // stride)) * stride
        # with stride > window, frames between two windows are skipped
        deque(islice(remaining, max(0, keep - begin - len(buffer))), 0)
        buffer, begin = buffer[keep - begin :], keep
