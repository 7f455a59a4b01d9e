"""The two small networks that the package ships, one a stream."""

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
from tal_bench.extraction.snippet_sampler import Cut
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
"""Pixels of a side of what the `rgb` network is shown."""
FLOW_SIZE = 32
"""Flow is computed on whole frames at half resolution (DIS, finest scale 1); 32 × 32 loses nothing."""
LEAST = 2 * HALF_WINDOW + 1
"""Frames that both networks look at."""
WEIGHTS = Path(__file__).parent / "weights"


def build_network(stream: str) -> SnippetNet:
    """Return the untrained network of ``rgb`` (9 channels, 48 × 48) or ``flow`` (6 channels, 32 × 32).

    Flow fields come at half resolution already, so that network halves one time less.
    """
    return SnippetNet(9) if stream == "rgb" else SnippetNet(6)


@lru_cache(maxsize=1)
def load_networks() -> dict[str, SnippetNet]:
    """Return the shipped networks, ready to embed."""
    nets = {}
    for stream in STREAMS:
        net = build_network(stream)
        load_weights(net, WEIGHTS / f"{stream}.safetensors")
        nets[stream] = net.fused().to(memory_format=torch.channels_last)
    return nets


def weights_hash() -> str:
    """Return a short hash of both networks' weights files.

    Raises:
        DataError: a file is missing.
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
    """Grey differences around the centre frame, and that frame in colour.

    Args:
        stride: frames between two steps.
        size: pixels of a side.
    """

    stride: int
    size: int = IMAGE_SIZE
    work = "decode"
    reach = HALF_WINDOW
    least = LEAST

    def look(self, frames: NDArray[np.uint8]) -> Cut:
        """See `SnippetSampler.look`; snippets are [M, 9, size, size]."""
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
        """See `SnippetSampler.look`; snippets are [M, 6, size, size]."""
        flow = step_flow(to_grey(frames), self.stride, self.algorithm, self.size)
        return lambda steps: flow_snippets(flow, steps)
