"""Errors for the person: what is wrong, where, and the way out, on one line."""

from __future__ import annotations


class TalBenchError(Exception):
    """Something a person can act on; the command line prints it as one line.

    Args:
        what: what is wrong, with the value received.
        where: the file, flag or spec field that holds it.
        hint: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        way_out = f" ({self.hint})" if self.hint else ""
        return " ".join(f"{place}{self.what}{way_out}".split())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle across worker processes, which keyword-only arguments would otherwise break."""
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[TalBenchError], what: str, where: object, hint: str) -> TalBenchError:
    return kind(what, where=where, hint=hint)


class InputError(TalBenchError):
    """A flag, spec or file given by the person is not usable; exit code 2."""

    exit_code = 2


class DataError(InputError):
    """An annotation or feature file is missing or malformed; exit code 2."""


class DiskFullError(TalBenchError):
    """A disk has no room left, also after waiting; exit code 1."""
