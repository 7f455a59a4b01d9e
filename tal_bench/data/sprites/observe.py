"""One scene to everything the networks look at, with the time each step takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.sprites.render import render
from tal_bench.data.sprites.scene import Scene
from tal_bench.data.sprites.settings import SpritesSettings
from tal_bench.data.video.snippets import (
    difference_snippets,
    flow_snippets,
    resize_frames,
    step_flow,
    to_grey,
)

FLOW_SIZE = 32
"""Flow is computed on whole frames at half resolution (DIS, finest scale 1); 32 × 32 loses nothing."""


@dataclass
class Clock:
    """CPU seconds of this process, by step."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.process_time)

    def lap(self, step: str) -> None:
        """Add the time since the last lap to ``step``."""
        now = time.process_time()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Observed:
    """A video as the networks need it: grey [N, h, h], colour [T, h, h, 3] and flow [T, 2, 32, 32]."""

    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    flow: NDArray[np.float32]
    stride: int

    @property
    def steps(self) -> int:
        """Number of feature steps T."""
        return len(self.colour)

    def rgb(self, steps: NDArray[np.intp]) -> NDArray[np.float32]:
        """RGB snippets of the given steps, [M, 9, h, h]."""
        return difference_snippets(self.grey, self.colour, steps, self.stride)

    def motion(self, steps: NDArray[np.intp]) -> NDArray[np.float32]:
        """Flow snippets of the given steps, [M, 6, 32, 32]."""
        return flow_snippets(self.flow, steps)


def observe(scene: Scene, settings: SpritesSettings, clock: Clock | None = None) -> Observed:
    """Render a scene and compute its grey frames, colour frames and flow; the frames are not kept."""
    clock = clock or Clock()
    frames = render(scene, settings.size, settings.fps)
    clock.lap("render")
    grey = to_grey(frames)
    small = resize_frames(grey, settings.net_size)
    colour = resize_frames(frames[:: settings.stride], settings.net_size)
    clock.lap("resize")
    flow = step_flow(grey, settings.stride, size=FLOW_SIZE)
    clock.lap("flow")
    return Observed(small, colour, flow, settings.stride)
