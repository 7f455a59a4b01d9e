"""Corrupt a stream of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tal_bench.corruption.action_runs import FrameRun
from tal_bench.corruption.registry import Condition, Frame, FrameChange, corruptions, random_generator

INITIAL_GREY = 128
"""Grey level that stands in for an intact frame before there is one."""


def corrupt_frames(
    frames: Iterable[Frame],
    condition: Condition,
    runs: Sequence[FrameRun] | None,
    *,
    video: str,
    seed: int,
    start: int = 0,
    before: Frame | None = None,
) -> Iterator[Frame]:
    """Yield the frames, with a corruption applied to those in the runs.

    Args:
        frames: Frames [H, W, 3].
        condition: Corruption to apply; severity 0 changes nothing.
        runs: Frames to corrupt, one run per action; None means all frames.
        video: Id of the video.
        seed: Seed of the random numbers.
        start: Number of the first of the frames.
        before: Frame before the first one, if there is one.
    """
    if condition.severity == 0:
        yield from frames
        return
    entry, level = corruptions.get(condition.corruption), condition.level
    change: FrameChange = entry.change  # type: ignore[assignment]
    # action of each frame to corrupt, the first one if actions overlap
    action = {k: i for i in reversed(range(len(runs or ()))) for k in range(*(runs or ())[i])}
    intact = before
    for k, frame in enumerate(frames, start):
        if runs is not None and k not in action:
            intact = frame
            yield frame
            continue
        rng = random_generator(seed, video, entry.name, action.get(k, 0) if entry.steady else k)
        yield change(frame, level, rng, np.full_like(frame, INITIAL_GREY) if intact is None else intact)
        intact = frame if runs is None else intact
