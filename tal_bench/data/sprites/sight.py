"""What the two shipped networks are shown of a video; and the settings that make features with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.sprites.networks import STREAMS, load_networks, weights_hash
from tal_bench.data.sprites.pca import Pca
from tal_bench.data.sprites.settings import SpritesSettings
from tal_bench.data.video.extract import Stream
from tal_bench.data.video.sight import Cut, Sight
from tal_bench.data.video.snippets import (
    HALF_WINDOW,
    difference_snippets,
    flow_snippets,
    resize_frames,
    step_flow,
    to_grey,
)
from tal_bench.data.video.spec import Extraction, ProjectionSpec, StreamSpec

FLOW_SIZE = 32
"""Flow is computed on whole frames at half resolution (DIS, finest scale 1); 32 × 32 loses nothing."""

WINDOW = 1
"""Feature i is centred on frame i · stride, whose exposure is centred half a frame after it begins."""

BATCH = 48
"""Steps that the networks take at once; another number changes features in their last digits."""

LEAST = 2 * HALF_WINDOW + 1
"""Frames that both networks look at."""


@dataclass(frozen=True)
class Differences:
    """Grey differences around the centre frame, and that frame in colour.

    Args:
        stride: frames between two steps.
        size: pixels of a side.
    """

    stride: int
    size: int = SpritesSettings.net_size
    work = "decode"
    reach = HALF_WINDOW
    least = LEAST

    def look(self, frames: NDArray[np.uint8]) -> Cut:
        """See `Sight.look`; snippets are [M, 9, size, size]."""
        grey = resize_frames(to_grey(frames), self.size)
        colour = resize_frames(frames[:: self.stride], self.size)
        return lambda steps: difference_snippets(grey, colour, steps, self.stride)


@dataclass(frozen=True)
class StepFlow:
    """The flow across the centres of three steps.

    Args:
        stride: frames between two steps.
        algorithm: of the flow.
        size: pixels of a side.
    """

    stride: int
    algorithm: str = "dis"
    size: int = FLOW_SIZE
    work = "flow"
    least = LEAST

    @property
    def reach(self) -> int:
        """The steps on either side, and the frames beside their centres."""
        return self.stride + 1

    def look(self, frames: NDArray[np.uint8]) -> Cut:
        """See `Sight.look`; snippets are [M, 6, size, size]."""
        flow = step_flow(to_grey(frames), self.stride, self.algorithm, self.size)
        return lambda steps: flow_snippets(flow, steps)


def sights(settings: SpritesSettings) -> dict[str, Sight]:
    """What each stream's network is shown."""
    return {"rgb": Differences(settings.stride, settings.net_size), "flow": StepFlow(settings.stride)}


def network_streams(settings: SpritesSettings) -> dict[str, Stream]:
    """The shipped networks with what they are shown; their vectors, without a projection."""
    nets = load_networks()
    return {name: Stream(sight, nets[name]) for name, sight in sights(settings).items()}


def extraction_of(settings: SpritesSettings, projections: Mapping[str, Pca]) -> Extraction:
    """The settings that turn any video into features of this dataset's kind."""
    streams = {
        name: StreamSpec(
            sees="sprites-rgb" if name == "rgb" else "sprites-flow",
            flow=None if name == "rgb" else "dis",
            backbone=f"sprites-{name}",
            weights="shipped",
            weights_hash=weights_hash(),
            channels=projections[name].matrix.shape[1],
            projection=ProjectionSpec.of(projections[name].mean, projections[name].matrix),
        )
        for name in STREAMS
    }
    return Extraction(
        fps=settings.fps,
        size=(settings.size, settings.size),
        stride=settings.stride,
        window=WINDOW,
        batch=BATCH,
        streams=streams,
    )
