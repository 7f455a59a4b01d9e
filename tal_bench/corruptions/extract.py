"""Features of corrupted videos, on the path that made those of the dataset: only steps that see a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tal_bench.corruptions.action_runs import Run, Stretch, action_runs, middles, stretches
from tal_bench.corruptions.frames import corrupted
from tal_bench.corruptions.registry import WHOLE, Condition, Frame, corruptions
from tal_bench.errors import DataError
from tal_bench.extraction.features import Stream, extract

VideoReader = Callable[[], Iterable[Frame]]
"""Gives the frames of a video, from the first on, each time it is called."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A video as it is corrupted.

    Attributes:
        id: of the video.
        footage: its frames, at the rate and size that its features were made at.
        segments: [N, 2] actions in seconds.
        fps: of the frames.
        steps: T of its features.
    """

    id: str
    footage: VideoReader
    segments: NDArray[np.float64]
    fps: float
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """Features that a corruption changes.

    Attributes:
        steps: [M] numbers, rising.
        values: [M, C] of those steps.
    """

    steps: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grid:
    """How features lie in a video: frames between two, frames under one; and steps that a network takes."""

    stride: int
    window: int
    batch: int


def corrupt_video(
    shot: Shot, streams: Mapping[str, Stream], grid: Grid, wanted: Sequence[Condition], *, seed: int = 0
) -> Iterator[tuple[Condition, dict[str, Changed]]]:
    """Features of a video under several corruptions; its frames are read once for all that hit actions.

    Where only some frames are hit, features are made of the steps that see any of them, from pieces of the
    video that hold all that those steps look at. They are what extracting the whole corrupted video gives,
    up to the last digits, which depend on how steps share a batch.

    Args:
        shot: the video.
        streams: name to what makes its features.
        grid: of the features.
        wanted: corrupted versions.
        seed: of the random numbers.

    Yields:
        Version, and stream to what changes.

    Raises:
        DataError: the video has not as many steps as its features.
    """
    reach = max(stream.sampler.reach for stream in streams.values())
    actions = action_runs(shot.segments, shot.fps)
    plans: list[tuple[Condition, list[Run], list[Stretch]]] = []
    for condition in wanted:
        if corruptions.get(condition.corruption).extent == "actions":
            runs = middles(actions, condition.share) if condition.share < WHOLE else actions
            places = stretches(runs, stride=grid.stride, window=grid.window, reach=reach, steps=shot.steps)
            plans.append((condition, runs, places))
    held = _hold(shot, [place for *_, places in plans for place in places])
    for condition, runs, places in plans:
        parts = [(place, _piece(shot, held, place, condition, runs, streams, grid, seed)) for place in places]
        yield condition, {name: _joined([(at, part[name]) for at, part in parts]) for name in streams}
    for condition in wanted:
        if corruptions.get(condition.corruption).extent == "video":
            frames = corrupted(shot.footage(), condition, None, video=shot.id, seed=seed)
            made = extract(frames, streams, stride=grid.stride, window=grid.window, batch=grid.batch)
            whole = Stretch(0, shot.steps, 0, 0)
            _check(shot, len(next(iter(made.values()))) == shot.steps)
            yield condition, {name: _joined([(whole, values)]) for name, values in made.items()}


def _hold(shot: Shot, places: Sequence[Stretch]) -> dict[int, Frame]:
    """Frames that any of the stretches needs, and the one before each."""
    if not places:
        return {}
    last = max(place.end for place in places)
    needed = np.zeros(last, np.bool_)
    for place in places:
        needed[max(0, place.begin - 1) : place.end] = True
    held: dict[int, Frame] = {}
    for k, frame in enumerate(shot.footage()):
        if k >= last:
            break
        if needed[k]:
            held[k] = frame
    return held


def _piece(
    shot: Shot,
    held: Mapping[int, Frame],
    place: Stretch,
    condition: Condition,
    runs: Sequence[Run],
    streams: Mapping[str, Stream],
    grid: Grid,
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Features of the steps of a stretch."""
    frames = [held[k] for k in range(place.begin, place.end) if k in held]
    changed = corrupted(
        frames,
        condition,
        runs,
        video=shot.id,
        seed=seed,
        start=place.begin,
        before=held.get(place.begin - 1),
    )
    made = extract(changed, streams, stride=grid.stride, window=grid.window, batch=grid.batch)
    first = place.first - place.begin // grid.stride
    count = place.after - place.first
    _check(shot, all(len(values) >= first + count for values in made.values()))
    return {name: values[first : first + count] for name, values in made.items()}


def _check(shot: Shot, whole: bool) -> None:
    if not whole:
        what = f"the video has not the {shot.steps} steps of its features any more"
        raise DataError(what, where=f"video '{shot.id}'", hint="extract its features again")


def _joined(parts: Sequence[tuple[Stretch, NDArray[np.float32]]]) -> Changed:
    assert all(a.after <= b.first for (a, _), (b, _) in pairwise(parts))
    if not parts:
        return Changed(np.empty(0, np.int32), np.empty((0, 0), np.float32))
    steps = np.concatenate([np.arange(at.first, at.after, dtype=np.int32) for at, _ in parts])
    return Changed(steps, np.concatenate([values for _, values in parts]))
