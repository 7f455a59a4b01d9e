"""Text from files, made safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace the characters that a terminal cannot show or would take for a control sequence."""
    return "".join(c if c.isprintable() else "�" for c in text)
