"""One module per kind of fixture; the kind is read from the fixture's JSON, never from its name.

A kind is a `Kind(name, recognises, check)`. `check(fixture)` yields (what, error, tolerance) for every
comparison and raises if something in the fixture is not compared. To add a kind, write the module, import its
`KIND` below, and remove its line from PENDING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..fixtures import Fixture


@dataclass(frozen=True)
class Compared:
    """Largest error of a comparison and its tolerance, both in the unit of the check."""

    what: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        # written so that NaN fails
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Kind:
    """Kind of fixture: how to recognise it by its JSON, and how to check it (None: not compared yet)."""

    name: str
    recognises: Callable[[dict[str, Any]], bool]
    check: Callable[[Fixture], Iterable[Compared]] | None = None


def has(*keys: str) -> Callable[[dict[str, Any]], bool]:
    """Return a function that recognises a fixture by the keys of its JSON."""
    return lambda meta: all(key in meta for key in keys)


from . import distill, initialisation, kd, losses, maps, networks, nms, trajectory  # noqa: E402  (these modules import the definitions above)

CHECKS: list[Kind] = [
    distill.KIND,
    initialisation.KIND,
    kd.KIND,
    losses.KIND,
    maps.KIND,
    networks.KIND,
    nms.KIND,
    trajectory.KIND,
]
PENDING: list[Kind] = []


def kind_of(fixture: Fixture) -> Kind:
    """Return the kind that recognises a fixture; LookupError if none or several do."""
    kinds = [kind for kind in CHECKS + PENDING if kind.recognises(fixture.meta)]
    if len(kinds) != 1:
        names = ", ".join(kind.name for kind in kinds) or "no kind"
        raise LookupError(f"{fixture.id} is recognised by {names}; its JSON has {', '.join(fixture.meta)}")
    return kinds[0]
