"""Inputs of the two shipped networks, and the extraction settings that use them."""

from __future__ import annotations

from collections.abc import Mapping

from tal_bench.config.extraction import Extraction, ProjectionSpec, StreamSpec
from tal_bench.data.datasets.sprites.settings import SpritesSettings
from tal_bench.extraction.features import Stream
from tal_bench.extraction.pca import Pca
from tal_bench.extraction.shipped_networks import STREAMS, Differences, StepFlow, load_networks, weights_hash
from tal_bench.extraction.snippet_sampler import SnippetSampler

WINDOW = 1
"""Frames under one feature: feature i is centred on frame i · stride, in the middle of its exposure."""

BATCH = 48
"""Number of steps per forward pass; it affects the last digits of the features."""


def samplers(settings: SpritesSettings) -> dict[str, SnippetSampler]:
    """Return the snippet sampler of each stream."""
    return {"rgb": Differences(settings.stride, settings.net_size), "flow": StepFlow(settings.stride)}


def network_streams(settings: SpritesSettings) -> dict[str, Stream]:
    """Return the shipped networks with their snippet samplers, without projections."""
    nets = load_networks()
    return {name: Stream(sampler, nets[name]) for name, sampler in samplers(settings).items()}


def extraction_of(settings: SpritesSettings, projections: Mapping[str, Pca]) -> Extraction:
    """Return the settings that extract this dataset's features from any video."""
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
