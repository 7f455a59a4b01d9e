"""Inputs of the networks for all steps of a scene, from which pretraining draws random steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.sprites.render import render
from tal_bench.data.datasets.sprites.scene import Scene
from tal_bench.data.datasets.sprites.settings import SpritesSettings
from tal_bench.extraction.shipped_networks import FLOW_SIZE
from tal_bench.extraction.snippets import (
    difference_snippets,
    flow_snippets,
    resize_frames,
    step_flow,
    to_grey,
)


@dataclass(frozen=True)
class Observed:
    """Inputs of a video: grey frames [N, h, h], colour frames [T, h, h, 3] and flow [T, 2, 32, 32]."""

    grey: NDArray[np.uint8]
    colour: NDArray[np.uint8]
    flow: NDArray[np.float32]
    stride: int

    @property
    def steps(self) -> int:
        """Number of feature steps T."""
        return len(self.colour)

    def rgb(self, steps: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the RGB snippets of the given steps, [M, 9, h, h]."""
        return difference_snippets(self.grey, self.colour, steps, self.stride)

    def motion(self, steps: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the flow snippets of the given steps, [M, 6, 32, 32]."""
        return flow_snippets(self.flow, steps)


def observe(scene: Scene, settings: SpritesSettings) -> Observed:
    """Render a scene and compute its grey frames, colour frames and flow."""
    frames = render(scene, settings.size, settings.fps)
    grey = to_grey(frames)
    colour = resize_frames(frames[:: settings.stride], settings.net_size)
    flow = step_flow(grey, settings.stride, size=FLOW_SIZE)
    return Observed(resize_frames(grey, settings.net_size), colour, flow, settings.stride)
