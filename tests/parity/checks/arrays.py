"""Arrays of a fixture, each of which must be used, and comparisons of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fixtures import Fixture
from . import Compared

Array = np.ndarray[Any, Any]


def on_default_device(array: Array) -> Tensor:
    """Return a copy of an array as a tensor on the default device of torch, on which a check then runs."""
    return torch.from_numpy(array.copy()).to(default_device())


def default_device() -> torch.device:
    """Return the device of new tensors: the CPU, unless `with torch.device(...)` says otherwise."""
    return torch.empty(0).device


class Arrays:
    """Arrays of a fixture, with a record of those that were used."""

    def __init__(self, fixture: Fixture) -> None:
        self.id, self._arrays, self._used = fixture.id, fixture.tensors, set[str]()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __call__(self, name: str) -> Array:
        self._used.add(name)
        return self._arrays[name]

    def tensor(self, name: str) -> Tensor:
        return on_default_device(self(name))

    def several(self, prefix: str) -> list[Tensor]:
        """Return `prefix/0`, `prefix/1` ... as tensors; empty if there are none."""
        tensors: list[Tensor] = []
        while f"{prefix}/{len(tensors)}" in self:
            tensors.append(self.tensor(f"{prefix}/{len(tensors)}"))
        return tensors

    def tree(self, prefix: str) -> dict[str, Tensor]:
        """Return all tensors below `prefix/`, by the rest of their names."""
        names = [name for name in self._arrays if name.startswith(f"{prefix}/")]
        return {name.removeprefix(f"{prefix}/"): self.tensor(name) for name in names}

    def finish(self) -> None:
        """Raise AssertionError if an array was never used."""
        unused = sorted(set(self._arrays) - self._used)
        assert not unused, f"{self.id} contains {unused[:5]} ... ({len(unused)}), which no comparison covers"


def near(what: str, ours: Tensor, theirs: Tensor, tolerance: float) -> Compared:
    """Compare by the largest absolute difference; infinite if the shapes differ."""
    if ours.shape != theirs.shape:
        return Compared(f"{what}: shape {tuple(ours.shape)} for {tuple(theirs.shape)}", np.inf, 0.0)
    if theirs.numel() == 0:
        return Compared(what, 0.0, tolerance)
    error = (ours.detach().double() - theirs.double()).abs()
    return Compared(what, float("nan") if error.isnan().any() else float(error.max()), tolerance)


def near_levels(what: str, ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> Iterator[Compared]:
    """Apply `near` to every level."""
    assert len(ours) == len(theirs), f"{what}: {len(ours)} levels for {len(theirs)}"
    for level, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        yield near(f"{what}/{level}", x, y, tolerance)


def scaled(what: str, ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> Iterator[Compared]:
    """Compare per level, relative to the largest entry where that exceeds 1."""
    for level, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        yield near(f"{what}/{level}", x, y, tolerance * max(1.0, float(y.abs().max())))


def relative(what: str, ours: float | Tensor, theirs: float, tolerance: float) -> Compared:
    """Compare two numbers by their difference relative to theirs."""
    return Compared(
        what, abs(float(torch.as_tensor(ours).detach()) - theirs) / max(abs(theirs), 1e-12), tolerance
    )


def equal(what: str, ours: object, theirs: object) -> Compared:
    """Compare for equality."""
    return Compared(f"{what}: {ours} for {theirs}", 0.0 if ours == theirs else np.inf, 0.0)
