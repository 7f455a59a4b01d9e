"""Select the frames to corrupt, and the feature steps that depend on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FrameRun = tuple[int, int]
"""Consecutive frames, as (first, one past the last)."""


def action_runs(segments: NDArray[Any], rate: float, *, offset: float = 0.5) -> list[FrameRun]:
    """Return the frames, or feature steps, whose centres lie in each action.

    Args:
        segments: Actions [N, 2] in seconds.
        rate: Frames, or steps, per second.
        offset: Position of the centre of the first frame, in frames.

    Returns:
        One run per action, empty if the action lies between two centres.
    """
    bounds = np.ceil(np.asarray(segments, np.float64).reshape(-1, 2) * rate - offset - 1e-9).astype(int)
    return [(max(0, first), max(0, first, last)) for first, last in bounds.tolist()]


def middle_runs(runs: Sequence[FrameRun], share: float) -> list[FrameRun]:
    """Return the middle of every run: `share` of its frames, rounded, and at least one unless it is empty.

    As in THUMOS14-C, corrupted frames are consecutive and centred, where they affect detectors most. The
    frames of a larger share contain those of a smaller one.
    """
    middles = []
    for first, end in runs:
        length = end - first
        count = min(length, max(1, math.floor(share * length + 0.5))) if share > 0 else 0
        start = first + (length - count) // 2
        middles.append((start, start + count))
    return middles


@dataclass(frozen=True, slots=True)
class StepRun:
    """Consecutive feature steps to extract again, and the frames that they depend on.

    Attributes:
        first_step: First step.
        end_step: One past the last step.
        first_frame: First frame, a multiple of the stride.
        end_frame: One past the last frame; may lie beyond the end of the video.
    """

    first_step: int
    end_step: int
    first_frame: int
    end_frame: int


def step_runs(
    runs: Sequence[FrameRun], *, stride: int, window: int, context_frames: int, steps: int
) -> list[StepRun]:
    """Return the feature steps that depend on any of the frames.

    Args:
        runs: Runs of frames.
        stride: Number of frames between two steps.
        window: Number of frames of a step.
        context_frames: Number of frames that a step depends on beyond either end of its window.
        steps: Number of steps of the video.

    Returns:
        Disjoint runs of steps in increasing order, with at least one step between them.
    """
    affected = np.zeros(steps + 1, np.bool_)
    for begin, end in runs:
        if end > begin:
            first = max(0, math.ceil((begin - window + 1 - context_frames) / stride))
            affected[first : max(first, min(steps, (end - 1 + context_frames) // stride + 1))] = True
    affected[steps] = False
    edges = np.flatnonzero(np.diff(affected.astype(np.int8), prepend=0)).reshape(-1, 2)
    margin = math.ceil(context_frames / stride) * stride
    return [
        StepRun(first, end, max(0, first * stride - margin), (end - 1) * stride + window + context_frames)
        for first, end in edges.tolist()
    ]
