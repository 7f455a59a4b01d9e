"""Errors that the command line prints on one line: what is wrong, where, and what to do."""

from __future__ import annotations


class TalBenchError(Exception):
    """Error that the user can act on; exit code 1.

    Args:
        what: Description of the error, with the value received.
        where: File, flag or spec field that contains the error.
        hint: Advice on what to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where is not None else ""
        hint = f" ({self.hint})" if self.hint else ""
        return " ".join(f"{place}{self.what}{hint}".split())

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling across worker processes despite the keyword-only arguments."""
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(
    error: type[TalBenchError], what: str, where: object, hint: str, more: dict[str, str] | None = None
) -> TalBenchError:
    return error(what, where=where, hint=hint, **(more or {}))


class InputError(TalBenchError):
    """A flag, spec or file given by the user is invalid; exit code 2."""

    exit_code = 2


class DataError(InputError):
    """An annotation or feature file is missing or malformed; exit code 2.

    Args:
        what: Description of the error, with the value received.
        where: File that contains the error.
        hint: Advice on what to do.
        kind: Kind of finding of `tal-bench data check`; empty if nothing distinguishes it.
    """

    def __init__(self, what: str, *, where: object = None, hint: str = "", kind: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint, {"kind": self.kind})


class DiskFullError(TalBenchError):
    """The disk is still full after several attempts to write; exit code 1."""
