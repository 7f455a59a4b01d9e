"""What the networks are shown of a video, piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tal_bench.extraction.snippets import flow_stacks, image_snippets, window_flow

Cut = Callable[[NDArray[np.intp]], NDArray[np.float32]]
"""Step numbers [M] to snippets [M, C, H, W]."""


class SnippetSampler(Protocol):
    """What one network is shown."""

    @property
    def work(self) -> str:
        """The step of the cost that looking counts as: `flow`, or `decode` for mere resizing."""

    @property
    def reach(self) -> int:
        """Frames that a snippet looks at beyond either end of its window."""

    @property
    def least(self) -> int:
        """Frames that a video must have."""

    def look(self, frames: NDArray[np.uint8]) -> Cut:
        """Take in frames [N, H, W, 3]; what is returned cuts snippets of their steps, the first being 0."""


@dataclass(frozen=True)
class CentreFrame:
    """The colour frame in the middle of the window.

    Args:
        stride: frames between two steps.
        window: frames of a step.
        mean: of each channel, in 0 to 1.
        std: likewise.
    """

    stride: int
    window: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    work = "decode"
    reach = 0

    @property
    def least(self) -> int:
        """One window."""
        return self.window

    def look(self, frames: NDArray[np.uint8]) -> Cut:
        """See `SnippetSampler.look`; snippets are [M, 3, H, W], normalised."""
        mean, std = (np.array(x, np.float32)[:, None, None] for x in (self.mean, self.std))
        return lambda steps: (image_snippets(frames, steps, self.stride, self.window) - mean) / std


@dataclass(frozen=True)
class FlowStack:
    """The flow fields between the window's frames, as an image network takes them: no motion is mid-grey.

    Args:
        stride: frames between two steps.
        window: frames of a step, 2 or more.
        algorithm: of the flow.
        std: of the network's images, one number.
    """

    stride: int
    window: int
    algorithm: str
    std: float
    work = "flow"
    reach = 0

    @property
    def least(self) -> int:
        """One window."""
        return self.window

    def look(self, frames: NDArray[np.uint8]) -> Cut:
        """See `SnippetSampler.look`; snippets are [M, 2 (window - 1), H, W]."""
        fields = window_flow(frames, self.stride, self.window, self.algorithm)
        gain = np.float32(0.5 / self.std)  # -1 … 1 is 0 … 1 in an image, whose middle is taken off
        return lambda steps: gain * flow_stacks(fields, steps, self.stride, self.window)
