"""Text from files and flags, made safe to show on a terminal, in a figure, in a table and on a page."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata
from collections.abc import Iterable

REPLACEMENT = "\ufffd"
JOINERS = "\u200c\u200d"
"""Characters without width that Persian, Indic scripts and emoji need."""
ALIKE = str.maketrans(
    {
        **{"−": "-", "–": "-", "±": "+-", "≈": "~", "…": "...", "×": "x", "·": "-"},
        **{"←": "<-", "→": "->", "↑": "^", "↓": "v", "Δ": "d"},
    }
)
"""Characters that reports use and what they become where the encoding of the output lacks them."""
ERRORS = "tal_bench.alike"


def printable(text: str) -> str:
    """Return text on one line, without characters that cannot be shown or that control the output.

    Control characters (line breaks among them), marks of the writing direction, surrogates and unassigned
    characters become U+FFFD.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) else REPLACEMENT for c in text)


def duration(seconds: float) -> str:
    """Return seconds in words: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(counts: Iterable[int], noun: str) -> str:
    """Return a number of things in words: `1 seed`, `8 seeds`, or `3 to 8 seeds` where counts differ."""
    least, most = min(found := list(counts)), max(found)
    number = str(most) if least == most else f"{least} to {most}"
    return f"{number} {noun}{'s' * (most != 1)}"


def first_line(error: BaseException, length: int = 400) -> str:
    """Return the first line of an error's message, at most `length` characters; its type if it has none."""
    return _message(error)[:length] or type(error).__name__


def typed_line(error: BaseException, length: int = 400) -> str:
    """Return the type of an error and, if there is one, the first line of its message."""
    return f"{type(error).__name__}: {_message(error)[:length]}".removesuffix(": ")


def _message(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip()


def _is_shown(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def shortened(text: str, length: int) -> str:
    """Return `printable` text of at most `length` characters; the middle of longer text becomes `…`.

    Both ends of a name distinguish it from others: `conv-dw-hallu…ed-ta-small`.
    """
    text = printable(text)
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def replace_unencodable() -> None:
    """Let standard output and standard error replace the characters that their encoding lacks."""
    codecs.register_error(ERRORS, _alike)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


def _alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end].translate(ALIKE)
    return "".join(c if c.isascii() else "?" for c in found), error.end
