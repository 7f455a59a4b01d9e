"""Text that comes from files, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text without what a terminal would take for an instruction, and without what it cannot show."""
    return "".join(c if c.isprintable() else "�" for c in text)


def plain(text: str) -> str:
    """As `printable`, and without what rich would take for markup."""
    from rich.markup import escape

    return escape(printable(text))
