"""Published distillation losses: every value and gradient, in float64 and in float32.

What the originals gave in float64 (`out64/`, `grad64/`) is the reference of both precisions. What they gave
in float32 (`out/`, `grad/`) contains rounding errors and is the reference only of a case without float64.
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
ZERO = 1e-13
"""Share of the largest gradient of a case, in float64, below which a gradient is 0 by analysis."""
ALL_ZERO = 1e-14
"""Largest gradient of a case, in float64, below which all of them are 0 by analysis."""


@dataclass(frozen=True)
class Allowed:
    """Tolerances of a precision."""

    scalar: float
    tensor: float
    gradient: float
    noise: float
    """Magnitude below which an output is rounding error of terms of order 1."""

    @classmethod
    def read(cls, fixture: Fixture, precision: torch.dtype) -> Allowed:
        """Read the tolerances of a fixture for a precision."""
        given = fixture.meta["tolerances"].get(PRECISIONS[precision])
        assert given, f"{fixture.id} has no tolerances {PRECISIONS[precision]}"
        names = ("scalars_relative", "tensors_of_largest", "gradients_of_largest")
        return cls(*(given[name] for name in names), 10 * torch.finfo(precision).eps)


def check(fixture: Fixture) -> Iterator[Compared]:
    """Compare every case of the fixture in both precisions; an unknown method is a failed comparison."""
    method = _method(str(fixture.meta["name"]))
    if method is None:
        yield Compared(
            f"method {fixture.meta['method']!r} ({fixture.meta['name']}) is not implemented", np.inf, 0.0
        )
        return
    _all_known(fixture)
    for precision in PRECISIONS:
        for case in fixture.meta["cases"]:
            double = bool(fixture.tree(f"{case}/out64"))
            if double or precision == torch.float32:
                yield from _case(fixture, case, method, precision, "64" if double else "")


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
        case, group, *_ = (*name.split("/", 2), "")
        assert case in cases and group in GROUPS, f"{fixture.id} contains {name}, which no comparison covers"


def _case(
    fixture: Fixture,
    name: str,
    method: Callable[[Case], dict[str, Tensor]],
    precision: torch.dtype,
    reference: str,
) -> Iterator[Compared]:
    """Compare a case with the arrays `out` and `grad` of a reference, which is `64` or nothing."""
    case, allowed = Case.read(fixture, name, precision), Allowed.read(fixture, precision)
    what = f"{name} in {str(precision).removeprefix('torch.')}"
    outputs = method(case)
    theirs = fixture.tree(f"{name}/out{reference}")
    missing = sorted(set(theirs) - set(outputs))
    assert not missing, f"{fixture.id}/{name} has the outputs {missing}, which no comparison covers"
    assert "loss" in theirs, f"{fixture.id}/{name} has no array out{reference}/loss"
    for output, expected in theirs.items():
        yield _output(f"{what}: {output}", outputs[output], expected, allowed)
    facts = fixture.meta["cases"][name]
    gradients = fixture.tree(f"{name}/grad{reference}")
    wanted = facts["gradients_of"]
    assert set(gradients) == set(wanted), f"{fixture.id}/{name}: gradients {sorted(gradients)}, not {wanted}"
    outputs["loss"].backward()
    yield from _gradients(what, case, gradients, facts.get("zero_gradients", []), allowed)


def _output(what: str, ours: Tensor, theirs: np.ndarray[Any, Any], allowed: Allowed) -> Compared:
    """Compare a scalar relative to its value, a tensor relative to its largest entry."""
    if ours.numel() != theirs.size:
        return Compared(f"{what}: shape {tuple(ours.shape)} for {theirs.shape}", np.inf, 0.0)
    error, largest = _error(ours, theirs), float(np.abs(theirs).max(initial=0.0))
    if largest < allowed.noise:
        return Compared(what, error, allowed.noise)
    if theirs.ndim == 0:
        return Compared(what, error / largest, allowed.scalar)
    # a tensor of one number is as hard to meet as a scalar
    return Compared(what, error / largest, max(allowed.tensor, allowed.scalar * (theirs.size == 1)))


def _gradients(
    what: str, case: Case, theirs: dict[str, np.ndarray[Any, Any]], zero: list[str], allowed: Allowed
) -> Iterator[Compared]:
    """Compare gradients relative to their largest entry; those that are 0 by analysis, to that of all."""
    overall = max((float(np.abs(g).max(initial=0.0)) for g in theirs.values()), default=0.0)
    for name, expected in theirs.items():
        ours = case.gradient(name)
        largest = float(np.abs(expected).max(initial=0.0))
        if ours.numel() != expected.size:
            yield Compared(f"{what}: gradient of {name}: {ours.numel()} for {expected.size}", np.inf, 0.0)
            continue
        if overall < ALL_ZERO:
            yield Compared(f"{what}: gradient of {name}", _error(ours, expected), allowed.noise)
            continue
        listed = name in zero
        scale = overall if listed or largest <= ZERO * overall else largest
        reference = np.zeros_like(expected) if listed else expected
        yield Compared(f"{what}: gradient of {name}", _error(ours, reference) / scale, allowed.gradient)


def _error(ours: Tensor, theirs: np.ndarray[Any, Any]) -> float:
    """Return the largest absolute difference; NaN if ours contains one."""
    if theirs.size == 0:
        return 0.0
    return float(np.abs(ours.detach().double().cpu().numpy().reshape(theirs.shape) - theirs).max())


KIND: Kind = Kind("kd", has("method", "formula", "cases", "tolerances"), check)
