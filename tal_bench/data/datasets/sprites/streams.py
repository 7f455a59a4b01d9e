"""What the two shipped networks are shown of a video; and the settings that make features with them."""

from __future__ import annotations

from collections.abc import Mapping

from tal_bench.config.extraction import Extraction, ProjectionSpec, StreamSpec
from tal_bench.data.datasets.sprites.settings import SpritesSettings
from tal_bench.extraction.features import Stream
from tal_bench.extraction.pca import Pca
from tal_bench.extraction.shipped_networks import STREAMS, Differences, StepFlow, load_networks, weights_hash
from tal_bench.extraction.snippet_sampler import SnippetSampler

WINDOW = 1
"""Feature i is centred on frame i · stride, whose exposure is centred half a frame after it begins."""

BATCH = 48
"""Steps that the networks take at once; another number changes features in their last digits."""


def samplers(settings: SpritesSettings) -> dict[str, SnippetSampler]:
    """Return the snippet sampler of each stream."""
    return {"rgb": Differences(settings.stride, settings.net_size), "flow": StepFlow(settings.stride)}


def network_streams(settings: SpritesSettings) -> dict[str, Stream]:
    """The shipped networks with what they are shown; their vectors, without a projection."""
    nets = load_networks()
    return {name: Stream(sampler, nets[name]) for name, sampler in samplers(settings).items()}


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
