"""From frames to features: the one path that files, rendered videos and measurements of cost all take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tal_bench.extraction.backbone import embed
from tal_bench.extraction.snippet_sampler import SnippetSampler
from tal_bench.system.step_timer import StepTimer

EXCERPT_BYTES = 32 * 2**20
"""Colour frames held at once; flow fields of them take 2.7 times as much again."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Stream:
    """What makes one stream of features.

    Attributes:
        sight: what the network is shown.
        net: maps snippets [M, C, H, W] to vectors [M, D], in evaluation mode.
        project: maps vectors [T, D] to features [T, C].
    """

    sampler: SnippetSampler
    net: nn.Module
    project: Callable[[Features], Features] = lambda vectors: vectors


def extract(
    frames: Iterable[NDArray[np.uint8]],
    streams: Mapping[str, Stream],
    *,
    stride: int,
    window: int,
    batch: int,
    clock: StepTimer | None = None,
) -> dict[str, Features]:
    """Features of a video, however long; a few dozen megabytes of its frames are held at a time.

    Args:
        frames: [H, W, 3] each, RGB, all of one size.
        streams: name to what makes it.
        stride: frames between two features.
        window: frames under one feature.
        batch: steps at once; what a step's neighbours in the batch are does not depend on the length.
        clock: gets the laps `decode` (frames, resizing), `flow` and `backbone/<stream>`.

    Returns:
        Stream to [T, C]; T = (N - window) // stride + 1, and 0 where N < window.
    """
    clock = clock or StepTimer()
    reach = max(stream.sampler.reach for stream in streams.values())
    parts: dict[str, list[Features]] = {name: [] for name in streams}
    for held, first, steps in excerpts(frames, stride=stride, window=window, reach=reach, batch=batch):
        clock.lap("decode")
        for name, stream in streams.items():
            cut = stream.sampler.look(held)
            clock.lap(stream.sampler.work)
            shifted = lambda at, cut=cut, first=first: cut(at + first)  # noqa: E731
            parts[name].append(embed(stream.net, shifted, steps, batch))
            clock.lap(f"backbone/{name}")
    clock.lap("decode")
    features = {}
    for name, stream in streams.items():
        vectors = np.concatenate(parts[name]) if parts[name] else None
        features[name] = np.empty((0, 0), np.float32) if vectors is None else stream.project(vectors)
        clock.lap(f"backbone/{name}")
    return features


def excerpts(
    frames: Iterable[NDArray[np.uint8]], *, stride: int, window: int, reach: int, batch: int
) -> Iterator[tuple[NDArray[np.uint8], int, int]]:
    """Cut a video into pieces of whole batches of steps, with the frames that those look at.

    A piece starts at a step and holds every frame that its new steps look at, or ends where the video does:
    code that treats it as a whole video gives the right snippets of those steps.

    Args:
        frames: [H, W, 3] each.
        stride: frames between two steps.
        window: frames of a step.
        reach: frames looked at beyond either end of a window.
        batch: pieces have a multiple of so many steps.

    Yields:
        Frames [n, H, W, 3], the first new step counted from the piece's own first, and the number of new
        steps.
    """
    coming = iter(frames)
    held = list(islice(coming, 1))
    if not held:
        return
    size = batch * max(1, EXCERPT_BYTES // (batch * stride * held[0].nbytes))  # steps of a piece
    begin = done = 0  # the first frame held, and steps done
    left: int | None = None  # steps to do, known once the video has ended
    while left is None or left > 0:
        needed = (done + size - 1) * stride + window + reach - begin
        held += islice(coming, max(0, needed - len(held)))
        if len(held) < needed:
            left = (begin + len(held) - window) // stride + 1 - done
        steps = size if left is None else min(size, left)
        if steps > 0:
            yield np.stack(held), done - begin // stride, steps
        done += max(0, steps)
        left = None if left is None else left - steps
        keep = max(0, done - -(-reach // stride)) * stride
        deque(islice(coming, max(0, keep - begin - len(held))), 0)  # windows may lie further apart
        held, begin = held[keep - begin :], keep
