"""Weights on disk: safetensors, written atomically."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from tal_bench.errors import InputError
from tal_bench.results import write_atomically


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a module's weights."""
    write_atomically(path, save({k: v.cpu().contiguous() for k, v in model.state_dict().items()}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Read weights into a module of the same architecture.

    Raises:
        InputError: the file is missing, not safetensors, or of another architecture.
    """
    try:
        model.load_state_dict(load(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(
            "no such weights", where=path, hint="delete the run's .json to train it again"
        ) from None
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"not the weights of this architecture: {error}", where=path) from None
