"""One small registry for everything that has a name: datasets, models, variants, terms."""

from __future__ import annotations

import difflib
import importlib
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
        declared_in: modules that declare the built-in entries, imported at the first use of the registry.
    """

    def __init__(self, kind: str, *declared_in: str) -> None:
        self.kind = kind
        self._declared_in = declared_in
        self._entries: dict[str, T] = {}

    def _loaded(self) -> dict[str, T]:
        """The entries, the built-in ones first."""
        modules, self._declared_in = self._declared_in, ()  # the modules themselves call `add`
        for module in modules:
            importlib.import_module(module)
        return self._entries

    def add(self, name: str, entry: T) -> T:
        """Declare ``entry`` under ``name``.

        Raises:
            InputError: the name is taken.
        """
        entries = self._loaded()
        if name in entries:
            raise InputError(f"{self.kind} '{name}' is registered already", hint="choose another name")
        entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """Return the entry called ``name``.

        Raises:
            InputError: unknown name; the message suggests the closest one.
        """
        entries = self._loaded()
        if name not in entries:
            raise InputError(f"unknown {self.kind} '{name}'", hint=did_you_mean(name, self.names()))
        return entries[name]

    def names(self) -> list[str]:
        """All names, in order of declaration."""
        return list(self._loaded())

    def __contains__(self, name: object) -> bool:
        return name in self._loaded()

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())
