"""The two small networks that ship with the package, one per stream."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tal_bench.errors import DataError
from tal_bench.extraction.backbone import SnippetNet, load_weights
from tal_bench.extraction.snippet_sampler import SnippetFunction
from tal_bench.extraction.snippets import (
    HALF_WINDOW,
    difference_snippets,
    flow_snippets,
    resize_frames,
    step_flow,
    to_grey,
)

STREAMS = ("rgb", "flow")
IMAGE_SIZE = 48
"""Side in pixels of the snippets of the `rgb` network."""
FLOW_SIZE = 32
"""Side in pixels of the flow snippets. Flow is computed on whole frames at half resolution (DIS, finest
scale 1), so 32 × 32 loses no detail."""
MIN_FRAMES = 2 * HALF_WINDOW + 1
"""Number of frames that a snippet of either network depends on."""
WEIGHTS = Path(__file__).parent / "weights"


def build_network(stream: str) -> SnippetNet:
    """Return the untrained network of ``rgb`` (9 channels, 48 × 48) or ``flow`` (6 channels, 32 × 32).

    Flow fields already have half resolution, hence the smaller input of the ``flow`` network.
    """
    return SnippetNet(9) if stream == "rgb" else SnippetNet(6)


@lru_cache(maxsize=1)
def load_networks() -> dict[str, SnippetNet]:
    """Return the shipped networks in evaluation mode, with batch norms folded in."""
    nets = {}
    for stream in STREAMS:
        net = build_network(stream)
        load_weights(net, WEIGHTS / f"{stream}.safetensors")
        nets[stream] = net.fused().to(memory_format=torch.channels_last)
    return nets


def weights_hash() -> str:
    """Return a short hash of both networks' weights files.

    Raises:
        DataError: A file is missing.
    """
    digest = hashlib.sha256()
    for stream in STREAMS:
        path = WEIGHTS / f"{stream}.safetensors"
        if not path.exists():
            raise DataError(
                "the pretrained network is missing",
                where=path,
                hint="reinstall tal-bench, or run python -m tal_bench.data.datasets.sprites.pretrain --out "
                + str(WEIGHTS),
            )
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@dataclass(frozen=True)
class Differences:
    """Sampler of the ``rgb`` network: grey differences around the centre frame, and that frame in colour.

    Args:
        stride: Number of frames between two steps.
        size: Side of a snippet in pixels.
    """

    stride: int
    size: int = IMAGE_SIZE
    cost_step = "decode"
    context_frames = HALF_WINDOW
    min_frames = MIN_FRAMES

    def prepare(self, frames: NDArray[np.uint8]) -> SnippetFunction:
        """See `SnippetSampler.prepare`; snippets are [M, 9, size, size]."""
        grey = resize_frames(to_grey(frames), self.size)
        colour = resize_frames(frames[:: self.stride], self.size)
        return lambda steps: difference_snippets(grey, colour, steps, self.stride)


@dataclass(frozen=True)
class StepFlow:
    """Sampler of the ``flow`` network: flow at the centres of three successive steps.

    Args:
        stride: Number of frames between two steps.
        algorithm: Flow algorithm.
        size: Side of a snippet in pixels.
    """

    stride: int
    algorithm: str = "dis"
    size: int = FLOW_SIZE
    cost_step = "flow"
    min_frames = MIN_FRAMES

    @property
    def context_frames(self) -> int:
        """Distance to the neighbouring steps, plus the frames next to their centres."""
        return self.stride + 1

    def prepare(self, frames: NDArray[np.uint8]) -> SnippetFunction:
        """See `SnippetSampler.prepare`; snippets are [M, 6, size, size]."""
        flow = step_flow(to_grey(frames), self.stride, self.algorithm, self.size)
        return lambda steps: flow_snippets(flow, steps)
