"""Arrays of a fixture, each of which must be compared or used, and how two of them are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..fixtures import Fixture
from . import Compared

Array = np.ndarray[Any, Any]


class Arrays:
    """The fixture's arrays; remembers which were taken."""

    def __init__(self, fixture: Fixture) -> None:
        self.id, self._arrays, self._taken = fixture.id, fixture.tensors, set[str]()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __call__(self, name: str) -> Array:
        self._taken.add(name)
        return self._arrays[name]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self(name).copy())

    def several(self, prefix: str) -> list[Tensor]:
        """`prefix/0`, `prefix/1` ... as tensors; empty if there are none."""
        found: list[Tensor] = []
        while f"{prefix}/{len(found)}" in self:
            found.append(self.tensor(f"{prefix}/{len(found)}"))
        return found

    def tree(self, prefix: str) -> dict[str, Tensor]:
        """Everything below `prefix/`, by the rest of its name."""
        names = [name for name in self._arrays if name.startswith(f"{prefix}/")]
        return {name.removeprefix(f"{prefix}/"): self.tensor(name) for name in names}

    def finish(self) -> None:
        """AssertionError if something was never taken."""
        left = sorted(set(self._arrays) - self._taken)
        assert not left, f"{self.id} holds {left[:5]} ... ({len(left)}), which no comparison covers"


def near(what: str, ours: Tensor, theirs: Tensor, tolerance: float) -> Compared:
    """Largest absolute difference; infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return Compared(f"{what}: shape {tuple(ours.shape)} for {tuple(theirs.shape)}", np.inf, 0.0)
    if theirs.numel() == 0:
        return Compared(what, 0.0, tolerance)
    error = (ours.detach().double() - theirs.double()).abs()
    return Compared(what, float("nan") if error.isnan().any() else float(error.max()), tolerance)


def near_levels(what: str, ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> Iterator[Compared]:
    """`near` for every level."""
    assert len(ours) == len(theirs), f"{what}: {len(ours)} levels for {len(theirs)}"
    for level, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        yield near(f"{what}/{level}", x, y, tolerance)


def scaled(what: str, ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> Iterator[Compared]:
    """Per level, the difference relative to the largest entry, where that exceeds 1."""
    for level, (x, y) in enumerate(zip(ours, theirs, strict=True)):
        yield near(f"{what}/{level}", x, y, tolerance * max(1.0, float(y.abs().max())))


def relative(what: str, ours: float | Tensor, theirs: float, tolerance: float) -> Compared:
    """Difference of two numbers relative to theirs."""
    return Compared(
        what, abs(float(torch.as_tensor(ours).detach()) - theirs) / max(abs(theirs), 1e-12), tolerance
    )


def equal(what: str, ours: object, theirs: object) -> Compared:
    """Exactly the same, or not."""
    return Compared(f"{what}: {ours} for {theirs}", 0.0 if ours == theirs else np.inf, 0.0)
