"""Registry of named declarations: datasets, models, variants, terms, corruptions."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from tal_bench.errors import InputError

T = TypeVar("T")


def did_you_mean(name: str, known: list[str]) -> str:
    """Return a hint with the closest known name, or all known names if none is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


class Registry(Generic[T]):
    """Entries of one kind by name, in the order of declaration, those of `declared_in` first.

    Args:
        kind: Name of the kind ("variant", "student"), for messages.
        declared_in: Modules that declare the built-in entries; imported on first use of the registry.
    """

    def __init__(self, kind: str, *declared_in: str) -> None:
        self.kind = kind
        self._declared_in = declared_in
        self._ranks = {module: rank for rank, module in enumerate(declared_in)}
        self._rank_of: dict[str, int] = {}
        self._entries: dict[str, T] = {}
        self._followers: list[Callable[[str], object]] = []

    def _load_entries(self) -> dict[str, T]:
        """Return the entries, after importing the built-in ones."""
        modules, self._declared_in = self._declared_in, ()  # cleared first because the modules call `add`
        for module in modules:
            importlib.import_module(module)
        return self._entries

    def add(self, name: str, entry: T) -> T:
        """Add ``entry`` under ``name`` and return it.

        Its place is that of the module that calls, so it does not depend on which module is imported first.

        Raises:
            InputError: The name is already registered.
        """
        entries = self._load_entries()
        if name in entries:
            raise InputError(f"{self.kind} '{name}' is already registered", hint="choose another name")
        entries[name] = entry
        caller = sys._getframe(1).f_globals["__name__"]
        self._rank_of[name] = self._ranks.get(caller, len(self._ranks))
        for follower in self._followers:
            follower(name)
        return entry

    def for_each(self, function: Callable[[str], object]) -> None:
        """Call ``function`` with every name, including those added later."""
        for name in self.names():
            function(name)
        self._followers.append(function)

    def get(self, name: str, *, where: object = None) -> T:
        """Return the entry named ``name``; ``where`` is the place that an error names.

        Raises:
            InputError: The name is unknown; the message suggests the closest one.
        """
        entries = self._load_entries()
        if name not in entries:
            raise InputError(
                f"unknown {self.kind} '{name}'", where=where, hint=did_you_mean(name, self.names())
            )
        return entries[name]

    def names(self) -> list[str]:
        """Return all names in the order of declaration."""
        return sorted(self._load_entries(), key=lambda name: self._rank_of.get(name, len(self._ranks)))

    def __contains__(self, name: object) -> bool:
        return name in self._load_entries()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
