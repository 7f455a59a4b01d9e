"""Extract the features of corrupted videos, limited to the steps that a corruption changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tal_bench.corruption.action_runs import FrameRun, StepRun, action_runs, middle_runs, step_runs
from tal_bench.corruption.frames import corrupt_frames
from tal_bench.corruption.registry import FULL_SHARE, Condition, Frame, corruptions
from tal_bench.errors import DataError
from tal_bench.extraction.features import Stream, extract


@dataclass(frozen=True, slots=True, eq=False)
class SourceVideo:
    """A video to be corrupted.

    Attributes:
        id: Id of the video.
        read_frames: Function that returns the frames of the video from the first on, at the rate and size at
            which its features were extracted.
        segments: Actions [N, 2] in seconds.
        fps: Frames per second.
        steps: Number of feature steps T.
    """

    id: str
    read_frames: Callable[[], Iterable[Frame]]
    segments: NDArray[np.float64]
    fps: float
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class ChangedFeatures:
    """Features that a corruption changes.

    Attributes:
        steps: Step numbers [M] in increasing order.
        values: Features [M, C] of these steps.
    """

    steps: NDArray[np.int32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grid:
    """Feature grid of a video.

    Attributes:
        stride: Number of frames between two steps.
        window: Number of frames of a step.
        batch: Number of steps per forward pass.
    """

    stride: int
    window: int
    batch: int


def corrupt_video(
    video: SourceVideo,
    streams: Mapping[str, Stream],
    grid: Grid,
    conditions: Sequence[Condition],
    *,
    seed: int = 0,
) -> Iterator[tuple[Condition, dict[str, ChangedFeatures]]]:
    """Extract the features of a video under several corruptions.

    For corruptions of actions, the frames are read once, and features are extracted only for the steps that
    depend on a corrupted frame, from excerpts with all frames that those steps depend on. They equal the
    features of the whole corrupted video up to the last digits, which depend on how steps share a batch.

    Args:
        video: Video to corrupt.
        streams: Streams by name.
        grid: Feature grid.
        conditions: Corrupted versions.
        seed: Seed of the random numbers.

    Yields:
        Condition, and the changed features by stream.

    Raises:
        DataError: The number of steps of the video differs from that of its features.
    """
    context = max(stream.sampler.context_frames for stream in streams.values())
    actions = action_runs(video.segments, video.fps)
    plans: list[tuple[Condition, list[FrameRun], list[StepRun]]] = []
    for condition in conditions:
        if corruptions.get(condition.corruption).extent == "actions":
            runs = middle_runs(actions, condition.share) if condition.share < FULL_SHARE else actions
            affected = step_runs(
                runs, stride=grid.stride, window=grid.window, context_frames=context, steps=video.steps
            )
            plans.append((condition, runs, affected))
    frames = _read_needed(video, [run for *_, affected in plans for run in affected])
    for condition, runs, affected in plans:
        parts = [
            (run, _extract_run(video, frames, run, condition, runs, streams, grid, seed)) for run in affected
        ]
        yield condition, {name: _join([(run, part[name]) for run, part in parts]) for name in streams}
    for condition in conditions:
        if corruptions.get(condition.corruption).extent == "video":
            corrupted = corrupt_frames(video.read_frames(), condition, None, video=video.id, seed=seed)
            features = extract(corrupted, streams, stride=grid.stride, window=grid.window, batch=grid.batch)
            _check_length(video, len(next(iter(features.values()))) == video.steps)
            every = StepRun(0, video.steps, 0, 0)
            yield condition, {name: _join([(every, values)]) for name, values in features.items()}


def _read_needed(video: SourceVideo, runs: Sequence[StepRun]) -> dict[int, Frame]:
    """Read the frames that any of the runs depends on, and the one before each run."""
    if not runs:
        return {}
    end = max(run.end_frame for run in runs)
    needed = np.zeros(end, np.bool_)
    for run in runs:
        needed[max(0, run.first_frame - 1) : run.end_frame] = True
    frames: dict[int, Frame] = {}
    for k, frame in enumerate(video.read_frames()):
        if k >= end:
            break
        if needed[k]:
            frames[k] = frame
    return frames


def _extract_run(
    video: SourceVideo,
    frames: Mapping[int, Frame],
    run: StepRun,
    condition: Condition,
    frame_runs: Sequence[FrameRun],
    streams: Mapping[str, Stream],
    grid: Grid,
    seed: int,
) -> dict[str, NDArray[np.float32]]:
    """Extract the features of a run of steps."""
    corrupted = corrupt_frames(
        [frames[k] for k in range(run.first_frame, run.end_frame) if k in frames],
        condition,
        frame_runs,
        video=video.id,
        seed=seed,
        start=run.first_frame,
        before=frames.get(run.first_frame - 1),
    )
    features = extract(corrupted, streams, stride=grid.stride, window=grid.window, batch=grid.batch)
    first = run.first_step - run.first_frame // grid.stride
    end = first + run.end_step - run.first_step
    _check_length(video, all(len(values) >= end for values in features.values()))
    return {name: values[first:end] for name, values in features.items()}


def _check_length(video: SourceVideo, matches: bool) -> None:
    if not matches:
        message = f"the video no longer has the {video.steps} steps of its features"
        raise DataError(message, where=f"video '{video.id}'", hint="extract its features again")


def _join(parts: Sequence[tuple[StepRun, NDArray[np.float32]]]) -> ChangedFeatures:
    assert all(a.end_step <= b.first_step for (a, _), (b, _) in pairwise(parts))
    if not parts:
        return ChangedFeatures(np.empty(0, np.int32), np.empty((0, 0), np.float32))
    steps = np.concatenate([np.arange(run.first_step, run.end_step, dtype=np.int32) for run, _ in parts])
    return ChangedFeatures(steps, np.concatenate([values for _, values in parts]))
