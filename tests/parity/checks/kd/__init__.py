"""Published distillation losses: every value and gradient, in float64 and in float32.

What the originals gave in float32 (`out/`, `grad/`) is a record of their rounding error and is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...fixtures import Fixture
from .. import Compared, Kind, has
from .case import Case
from .features import FEATURES
from .predictions import PREDICTIONS
from .relations import RELATIONS

METHODS: Mapping[str, Callable[[Case], dict[str, Tensor]]] = {**FEATURES, **RELATIONS, **PREDICTIONS}
"""Function per method, by the name of its fixture without `kd_`: a case to its outputs by name."""

PRECISIONS = {torch.float64: "float64_against_out64", torch.float32: "float32_against_out64"}
GROUPS = ("in", "param", "out", "out64", "grad", "grad64")


@dataclass(frozen=True)
class Allowed:
    """Tolerances of a precision."""

    scalar: float
    tensor: float
    gradient: float
    noise: float
    """Magnitude below which a scalar is rounding error of terms of order 1."""


def check(fixture: Fixture) -> Iterator[Compared]:
    """Compare every case of the fixture in both precisions; an unknown method is a failed comparison."""
    method = _method(str(fixture.meta["name"]))
    if method is None:
        yield Compared(
            f"method {fixture.meta['method']!r} ({fixture.meta['name']}) is not implemented", np.inf, 0.0
        )
        return
    _all_known(fixture)
    for precision, name in PRECISIONS.items():
        given = fixture.meta["tolerances"][name]
        allowed = Allowed(
            given["scalars_relative"],
            given["tensors_of_largest"],
            given["gradients_of_largest"],
            10 * torch.finfo(precision).eps,
        )
        for case in fixture.meta["cases"]:
            yield from _case(fixture, case, method, precision, allowed)


def _method(name: str) -> Callable[[Case], dict[str, Tensor]] | None:
    """Return the function of a method; a fixture may add words to its name (`kd_at_small`)."""
    words = name.removeprefix("kd_").split("_")
    for count in range(len(words), 0, -1):
        found = METHODS.get("_".join(words[:count]))
        if found:
            return found
    return None


def _all_known(fixture: Fixture) -> None:
    """Raise AssertionError for an array that belongs to no case or no group."""
    cases = fixture.meta["cases"]
    for name in fixture.tensors:
        case, group, _ = name.split("/", 2)
        assert case in cases and group in GROUPS, f"{fixture.id} contains {name}, which no comparison covers"


def _case(
    fixture: Fixture,
    name: str,
    method: Callable[[Case], dict[str, Tensor]],
    precision: torch.dtype,
    allowed: Allowed,
) -> Iterator[Compared]:
    case = Case.read(fixture, name, precision)
    what = f"{name} in {str(precision).removeprefix('torch.')}"
    outputs = method(case)
    theirs = fixture.tree(f"{name}/out64")
    missing = sorted(set(theirs) - set(outputs))
    assert not missing, f"{fixture.id}/{name} has the outputs {missing}, which no comparison covers"
    for output, expected in theirs.items():
        yield _output(f"{what}: {output}", outputs[output], expected, allowed)
    wanted = fixture.meta["cases"][name]["gradients_of"]
    gradients = fixture.tree(f"{name}/grad64")
    assert set(gradients) == set(wanted), f"{fixture.id}/{name}: gradients {sorted(gradients)}, not {wanted}"
    outputs["loss"].backward()
    yield from _gradients(what, case, gradients, fixture.meta["cases"][name]["zero_gradients"], allowed)


def _output(what: str, ours: Tensor, theirs: np.ndarray[Any, Any], allowed: Allowed) -> Compared:
    """Compare a scalar relative to its value, a tensor relative to its largest entry."""
    if ours.numel() != theirs.size:
        return Compared(f"{what}: shape {tuple(ours.shape)} for {theirs.shape}", np.inf, 0.0)
    error, largest = _error(ours, theirs), float(np.abs(theirs).max(initial=0.0))
    if theirs.size > 1:
        return Compared(what, error / (largest or 1.0), allowed.tensor)
    if largest < allowed.noise:
        return Compared(what, error, allowed.noise)
    return Compared(what, error / largest, allowed.scalar)


def _gradients(
    what: str, case: Case, theirs: dict[str, np.ndarray[Any, Any]], zero: list[str], allowed: Allowed
) -> Iterator[Compared]:
    """Compare gradients relative to their largest entry; those that are 0 by analysis, to that of all."""
    overall = max((float(np.abs(g).max(initial=0.0)) for g in theirs.values()), default=0.0) or 1.0
    for name, expected in theirs.items():
        ours = case.gradient(name)
        largest = float(np.abs(expected).max(initial=0.0))
        scale = overall if name in zero or largest == 0.0 else largest
        if ours.numel() != expected.size:
            yield Compared(f"{what}: gradient of {name}: {ours.numel()} for {expected.size}", np.inf, 0.0)
            continue
        reference = np.zeros_like(expected) if name in zero else expected
        yield Compared(f"{what}: gradient of {name}", _error(ours, reference) / scale, allowed.gradient)


def _error(ours: Tensor, theirs: np.ndarray[Any, Any]) -> float:
    """Return the largest absolute difference; NaN if ours contains one."""
    if theirs.size == 0:
        return 0.0
    return float(np.abs(ours.detach().double().cpu().numpy().reshape(theirs.shape) - theirs).max())


KIND: Kind = Kind("kd", has("method", "formula", "cases", "tolerances"), check)
