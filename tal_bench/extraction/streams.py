"""Extraction settings to networks that are ready to run."""

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


def build_streams(extraction: Extraction, device: torch.device | str = "cpu") -> dict[str, Stream]:
    """Networks of all streams, in evaluation mode on the device.

    Raises:
        InputError: unknown backbone, or weights that are not to be had.
        DataError: a file of weights is missing, malformed, or not the one that the settings name.
    """
    return {name: _stream(name, spec, extraction, device)[0] for name, spec in extraction.streams.items()}


def complete(extraction: Extraction) -> Extraction:
    """Fill in the widths of the features and the hashes of the weights.

    Raises:
        InputError: see `build_streams`; or a network does not take frames of that size.
        DataError: see `build_streams`.
    """
    streams = {}
    for name, spec in extraction.streams.items():
        stream, content = _stream(name, spec, extraction, "cpu")
        width = _width(stream.net, spec, extraction)
        streams[name] = spec.model_copy(update={"weights_hash": content, "channels": width})
    return extraction.model_copy(update={"streams": streams})


def _stream(
    name: str, spec: StreamSpec, extraction: Extraction, device: torch.device | str
) -> tuple[Stream, str]:
    net, content = _network(spec, extraction)
    if spec.weights_hash not in ("", content):
        raise DataError(
            f"{spec.weights} has changed: hash {content}, the features were made with {spec.weights_hash}",
            where=f"weights of '{name}'",
            hint="bring the old file back",
        )
    net = net.to(device).to(memory_format=torch.channels_last)
    sight = sampler_of(spec, extraction)
    if spec.projection is None:
        return Stream(sight, net), content
    return Stream(sight, net, Pca(*spec.projection.arrays(), math.nan)), content


def _network(spec: StreamSpec, extraction: Extraction) -> tuple[nn.Module, str]:
    if spec.sees in TIMM_SAMPLERS:
        return image_network(spec.backbone, snippet_channels(spec, extraction), spec.weights)
    shared = load_networks()[spec.sees.removeprefix("sprites-")]
    return copy.deepcopy(shared), weights_hash()  # which may go to another device


def snippet_channels(spec: StreamSpec, extraction: Extraction) -> int:
    """C of an image network's snippets."""
    return 3 if spec.sees == "frame" else 2 * (extraction.window - 1)


def sampler_of(spec: StreamSpec, extraction: Extraction) -> SnippetSampler:
    """What a stream's network is shown."""
    stride, window = extraction.stride, extraction.window
    if spec.sees not in TIMM_SAMPLERS:
        return Differences(stride) if spec.sees == "sprites-rgb" else StepFlow(stride, spec.flow or "dis")
    mean, std = normalisation(spec)
    if spec.sees == "frame":
        return CentreFrame(stride, window, mean, std)
    return FlowStack(stride, window, spec.flow or "dis", fmean(std))


def normalisation(spec: StreamSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the images that timm's network of that name was trained on."""
    settings = _settings(spec.backbone)
    return tuple(settings["mean"]), tuple(settings["std"])


def usual_size(backbones: Iterable[str]) -> tuple[int, int]:
    """(height, width) of the images that the first of the networks was trained on."""
    _, height, width = _settings(next(iter(backbones)))["input_size"]
    return int(height), int(width)


def _settings(backbone: str) -> dict[str, tuple[float, ...]]:
    import timm

    if not timm.is_model(backbone):
        timm_network(backbone, 3)  # says what is wrong
    found = timm.get_pretrained_cfg(backbone)
    return {key: getattr(found, key) for key in ("mean", "std", "input_size")}


@torch.inference_mode()
def _width(net: nn.Module, spec: StreamSpec, extraction: Extraction) -> int:
    """C of the features; also finds out whether the network takes such snippets."""
    if spec.projection is not None:
        return len(spec.projection.arrays()[1].T)
    height, width = extraction.size
    try:
        out = net(torch.zeros(1, snippet_channels(spec, extraction), height, width))
    except (RuntimeError, AssertionError) as error:
        what = f"{spec.backbone} does not take {width}x{height}: {str(error).splitlines()[0][:150]}"
        usual = "x".join(map(str, reversed(usual_size([spec.backbone]))))
        raise InputError(what, where="--size", hint=f"it was trained on {usual}") from None
    if out.ndim != 2:
        raise InputError(f"gives {list(out.shape)}, not a vector", where=f"--backbone {spec.backbone}")
    return int(out.shape[1])
