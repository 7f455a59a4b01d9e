"""Whether layers may take shortcuts that counters of operations do not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_allowed = ContextVar("shortcuts_allowed", default=True)


def shortcuts_allowed() -> bool:
    """Whether sums may be rearranged and weights that are kept ready be used."""
    return _allowed.get()


@contextmanager
def without_shortcuts() -> Iterator[None]:
    """Context in which layers compute as they are defined, for whoever counts or compares operations."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)
