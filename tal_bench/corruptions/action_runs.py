"""Which frames are hit, and which feature steps look at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = tuple[int, int]
"""Frames from the first to before the second."""


def action_runs(segments: NDArray[Any], rate: float, *, offset: float = 0.5) -> list[Run]:
    """Frames, or steps, whose centres lie in each action.

    Args:
        segments: [N, 2] in seconds.
        rate: frames a second, or steps.
        offset: of the centre of the first, in frames.

    Returns:
        One run per action, empty for one between two centres.
    """
    bounds = np.ceil(np.asarray(segments, np.float64).reshape(-1, 2) * rate - offset - 1e-9).astype(int)
    return [(max(0, first), max(0, first, last)) for first, last in bounds.tolist()]


def middles(runs: Sequence[Run], share: float) -> list[Run]:
    """The middle of every action: `share` of its frames, rounded, and at least one where it has any.

    As in THUMOS14-C, whose corrupted frames are consecutive and centred, where they cost detectors most.
    Larger shares contain the smaller ones.
    """
    found = []
    for first, after in runs:
        count = after - first
        hit = min(count, max(1, math.floor(share * count + 0.5))) if share > 0 else 0
        start = first + (count - hit) // 2
        found.append((start, start + hit))
    return found


@dataclass(frozen=True, slots=True)
class Stretch:
    """Successive steps to be made anew, and the frames that they look at.

    Attributes:
        first: step.
        after: the step after the last.
        begin: first frame, a whole number of strides from the video's first.
        end: the frame after the last; it may lie beyond the video.
    """

    first: int
    after: int
    begin: int
    end: int


def stretches(runs: Sequence[Run], *, stride: int, window: int, reach: int, steps: int) -> list[Stretch]:
    """Steps that see any of the frames.

    Args:
        runs: of frames.
        stride: frames between two steps.
        window: frames of a step.
        reach: frames that a step looks at beyond either end of its window.
        steps: of the whole video.

    Returns:
        In rising order, apart from each other.
    """
    seen = np.zeros(steps + 1, np.bool_)
    for begin, end in runs:
        if end > begin:
            first = max(0, math.ceil((begin - window + 1 - reach) / stride))
            seen[first : max(first, min(steps, (end - 1 + reach) // stride + 1))] = True
    seen[steps] = False
    edges = np.flatnonzero(np.diff(seen.astype(np.int8), prepend=0)).reshape(-1, 2)
    margin = math.ceil(reach / stride) * stride
    return [
        Stretch(first, after, max(0, first * stride - margin), (after - 1) * stride + window + reach)
        for first, after in edges.tolist()
    ]
