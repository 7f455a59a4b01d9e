"""One module per kind of fixture; the kind is read from the fixture's JSON, never from its name.

A kind is a `Kind(name, recognises, check)`. `check(fixture)` returns the error of everything it compared as
(what, error, tolerance); it raises if something in the fixture is not compared. To add one: write the module,
import its `KIND` below, and take its line out of PENDING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..fixtures import Fixture


@dataclass(frozen=True)
class Compared:
    """The largest error of one comparison beside what is allowed; both in the unit the check states."""

    what: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        # Written so that NaN fails.
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Kind:
    """A kind of fixture: how to know one from its JSON and how to check it (None: not compared yet)."""

    name: str
    recognises: Callable[[dict[str, Any]], bool]
    check: Callable[[Fixture], Iterable[Compared]] | None = None


def has(*keys: str) -> Callable[[dict[str, Any]], bool]:
    """Recognise a fixture by the keys of its JSON."""
    return lambda meta: all(key in meta for key in keys)


from . import distill, initialisation, losses, maps, networks, nms, trajectory  # noqa: E402  (they import what is defined above)

CHECKS: list[Kind] = [
    distill.KIND,
    initialisation.KIND,
    losses.KIND,
    maps.KIND,
    networks.KIND,
    nms.KIND,
    trajectory.KIND,
]
PENDING: list[Kind] = []


def kind_of(fixture: Fixture) -> Kind:
    """The one kind that recognises a fixture; LookupError if none or several do."""
    kinds = [kind for kind in CHECKS + PENDING if kind.recognises(fixture.meta)]
    if len(kinds) != 1:
        found = ", ".join(kind.name for kind in kinds) or "no kind"
        raise LookupError(f"{fixture.id} is recognised by {found}; its JSON has {', '.join(fixture.meta)}")
    return kinds[0]
