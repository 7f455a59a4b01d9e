"""Switch for algebraic shortcuts that operation counters cannot account for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_allowed = ContextVar("shortcuts_allowed", default=True)


def shortcuts_allowed() -> bool:
    """Whether layers may rearrange sums (Winograd) and use prepared weights."""
    return _allowed.get()


@contextmanager
def without_shortcuts() -> Iterator[None]:
    """Context manager in which layers compute by their definition, for counting or comparing operations."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)
