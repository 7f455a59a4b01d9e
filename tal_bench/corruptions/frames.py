"""Frames of a video, some of them corrupted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tal_bench.corruptions.action_runs import Run
from tal_bench.corruptions.registry import Condition, Frame, FrameChange, corruptions, random_numbers

UNSEEN = 128
"""Grey level of what a decoder shows before it has seen anything."""


def corrupted(
    frames: Iterable[Frame],
    condition: Condition,
    runs: Sequence[Run] | None,
    *,
    video: str,
    seed: int,
    start: int = 0,
    before: Frame | None = None,
) -> Iterator[Frame]:
    """The same frames, those of the runs changed.

    Args:
        frames: [H, W, 3] each.
        condition: what is done to them; severity 0 changes nothing.
        runs: frames that are hit, one run per action; none = all frames.
        video: its id.
        seed: of the random numbers.
        start: number of the first frame given.
        before: the frame before that, where there is one.
    """
    if condition.severity == 0:
        yield from frames
        return
    entry, level = corruptions.get(condition.corruption), condition.level
    change: FrameChange = entry.change  # type: ignore[assignment]
    hit = {k: place for place in reversed(range(len(runs or ()))) for k in range(*(runs or ())[place])}
    whole = before
    for k, frame in enumerate(frames, start):
        if runs is not None and k not in hit:
            whole = frame
            yield frame
            continue
        rng = random_numbers(seed, video, entry.name, hit.get(k, 0) if entry.steady else k)
        yield change(frame, level, rng, np.full_like(frame, UNSEEN) if whole is None else whole)
        whole = frame if runs is None else whole
