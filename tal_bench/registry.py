"""One small registry for everything that has a name: datasets, models, variants, terms."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from tal_bench.errors import InputError

T = TypeVar("T")


def did_you_mean(name: str, known: list[str]) -> str:
    """Say the closest known name, or list all of them when none is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


class Registry(Generic[T]):
    """Names to declarations of one kind, in the order of their declaration.

    Args:
        kind: what the entries are ("variant", "student"), for messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Declare ``entry`` under ``name``.

        Raises:
            InputError: the name is taken.
        """
        if name in self._entries:
            raise InputError(f"{self.kind} '{name}' is registered already", hint="choose another name")
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry called ``name``.

        Raises:
            InputError: unknown name; the message suggests the closest one.
        """
        if name not in self._entries:
            raise InputError(f"unknown {self.kind} '{name}'", hint=did_you_mean(name, self.names()))
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, in order of declaration."""
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
