"""Samplers that cut the input snippets of networks from video frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tal_bench.extraction.snippets import flow_stacks, image_snippets, window_flow

SnippetFunction = Callable[[NDArray[np.intp]], NDArray[np.float32]]
"""Function that maps step numbers [M] to snippets [M, C, H, W]."""


class SnippetSampler(Protocol):
    """Cuts the snippets of one network from the frames of a video."""

    @property
    def cost_step(self) -> str:
        """Step that the time of `prepare` counts towards: `flow`, or `decode` for resizing alone."""

    @property
    def context_frames(self) -> int:
        """Number of frames that a snippet depends on beyond either end of its window."""

    @property
    def min_frames(self) -> int:
        """Minimum number of frames of a video."""

    def prepare(self, frames: NDArray[np.uint8]) -> SnippetFunction:
        """Preprocess frames [N, H, W, 3] and return the function that cuts the snippets of their steps.

        Step 0 begins at the first of the frames.
        """


@dataclass(frozen=True)
class CentreFrame:
    """Sampler of the colour frame in the middle of the window.

    Args:
        stride: Number of frames between two steps.
        window: Number of frames of a step.
        mean: Mean of each channel, for values of 0 to 1.
        std: Standard deviation of each channel.
    """

    stride: int
    window: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    cost_step = "decode"
    context_frames = 0

    @property
    def min_frames(self) -> int:
        """Length of one window."""
        return self.window

    def prepare(self, frames: NDArray[np.uint8]) -> SnippetFunction:
        """See `SnippetSampler.prepare`; snippets are [M, 3, H, W], normalised."""
        mean, std = (np.array(x, np.float32)[:, None, None] for x in (self.mean, self.std))
        return lambda steps: (image_snippets(frames, steps, self.stride, self.window) - mean) / std


@dataclass(frozen=True)
class FlowStack:
    """Sampler of the flow fields between the frames of the window, scaled so that no motion is mid-grey.

    Args:
        stride: Number of frames between two steps.
        window: Number of frames of a step, at least 2.
        algorithm: Flow algorithm.
        std: Standard deviation of the network's training images, averaged over channels.
    """

    stride: int
    window: int
    algorithm: str
    std: float
    cost_step = "flow"
    context_frames = 0

    @property
    def min_frames(self) -> int:
        """Length of one window."""
        return self.window

    def prepare(self, frames: NDArray[np.uint8]) -> SnippetFunction:
        """See `SnippetSampler.prepare`; snippets are [M, 2 (window - 1), H, W]."""
        fields = window_flow(frames, self.stride, self.window, self.algorithm)
        gain = np.float32(0.5 / self.std)  # flow of -1 … 1 corresponds to pixels of 0 … 1, centred at 0.5
        return lambda steps: gain * flow_stacks(fields, steps, self.stride, self.window)
