"""Build samplers and networks from extraction settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from statistics import fmean

import torch
from torch import nn

from tal_bench.config.extraction import TIMM_SAMPLERS, Extraction, StreamSpec
from tal_bench.errors import DataError, InputError
from tal_bench.extraction.backbone_weights import image_network, timm_network
from tal_bench.extraction.features import Stream
from tal_bench.extraction.pca import Pca
from tal_bench.extraction.shipped_networks import Differences, StepFlow, load_networks, weights_hash
from tal_bench.extraction.snippet_sampler import CentreFrame, FlowStack, SnippetSampler
from tal_bench.system.text import first_line


def build_streams(extraction: Extraction, device: torch.device | str = "cpu") -> dict[str, Stream]:
    """Build the samplers and networks of all streams, in evaluation mode, on the device.

    Raises:
        InputError: A backbone is unknown, or weights are not available.
        DataError: A weights file is missing, malformed, or has another hash than the settings record.
    """
    return {name: _stream(name, spec, extraction, device)[0] for name, spec in extraction.streams.items()}


def complete(extraction: Extraction) -> Extraction:
    """Fill in the numbers of channels of the features and the hashes of the weights.

    Raises:
        InputError: See `build_streams`; or a network does not accept frames of that size.
        DataError: See `build_streams`.
    """
    streams = {}
    for name, spec in extraction.streams.items():
        stream, hash_ = _stream(name, spec, extraction, "cpu")
        width = _width(stream.net, spec, extraction)
        streams[name] = spec.model_copy(update={"weights_hash": hash_, "channels": width})
    return extraction.model_copy(update={"streams": streams})


def _stream(
    name: str, spec: StreamSpec, extraction: Extraction, device: torch.device | str
) -> tuple[Stream, str]:
    net, hash_ = _network(spec, extraction)
    if spec.weights_hash not in ("", hash_):
        raise DataError(
            f"{spec.weights} has changed: hash {hash_}, features were extracted with {spec.weights_hash}",
            where=f"weights of '{name}'",
            hint="restore the original file",
        )
    net = net.to(device).to(memory_format=torch.channels_last)
    sampler = build_sampler(spec, extraction)
    if spec.projection is None:
        return Stream(sampler, net, precision=extraction.precision), hash_
    projection = Pca(*spec.projection.arrays(), math.nan)
    return Stream(sampler, net, projection, extraction.precision), hash_


def _network(spec: StreamSpec, extraction: Extraction) -> tuple[nn.Module, str]:
    if spec.sees in TIMM_SAMPLERS:
        return image_network(spec.backbone, snippet_channels(spec, extraction), spec.weights)
    shared = load_networks()[spec.sees.removeprefix("sprites-")]
    return copy.deepcopy(shared), weights_hash()  # the copy may be moved to another device


def snippet_channels(spec: StreamSpec, extraction: Extraction) -> int:
    """Return the number of channels of an image network's snippets."""
    return 3 if spec.sees == "frame" else 2 * (extraction.window - 1)


def build_sampler(spec: StreamSpec, extraction: Extraction) -> SnippetSampler:
    """Build the sampler of a stream's network."""
    stride, window = extraction.stride, extraction.window
    if spec.sees not in TIMM_SAMPLERS:
        return Differences(stride) if spec.sees == "sprites-rgb" else StepFlow(stride, spec.flow or "dis")
    mean, std = normalisation(spec)
    if spec.sees == "frame":
        return CentreFrame(stride, window, mean, std)
    return FlowStack(stride, window, spec.flow or "dis", fmean(std))


def normalisation(spec: StreamSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the images that a timm network was trained on."""
    settings = _settings(spec.backbone)
    return tuple(settings["mean"]), tuple(settings["std"])


def usual_size(backbones: Iterable[str]) -> tuple[int, int]:
    """Return (height, width) of the images that the first of the networks was trained on."""
    _, height, width = _settings(next(iter(backbones)))["input_size"]
    return int(height), int(width)


def _settings(backbone: str) -> dict[str, tuple[float, ...]]:
    import timm

    if not timm.is_model(backbone):
        timm_network(backbone, 3)  # raises the InputError for unknown names
    config = timm.get_pretrained_cfg(backbone)
    return {key: getattr(config, key) for key in ("mean", "std", "input_size")}


@torch.inference_mode()
def _width(net: nn.Module, spec: StreamSpec, extraction: Extraction) -> int:
    """Return the number of channels of the features; check that the network accepts the snippets."""
    if spec.projection is not None:
        return len(spec.projection.arrays()[1].T)
    height, width = extraction.size
    try:
        out = net(torch.zeros(1, snippet_channels(spec, extraction), height, width))
    except (RuntimeError, AssertionError) as error:
        what = f"{spec.backbone} does not accept {width}x{height}: {first_line(error, 150)}"
        usual = "x".join(map(str, reversed(usual_size([spec.backbone]))))
        raise InputError(what, where="--size", hint=f"it was trained on {usual}") from None
    if out.ndim != 2:
        raise InputError(
            f"output has shape {list(out.shape)}, expected one vector per snippet",
            where=f"--backbone {spec.backbone}",
        )
    return int(out.shape[1])
