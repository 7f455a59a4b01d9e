"""Sentences of a report: names in them are marked as code, as in Markdown, and all else is plain text."""

from __future__ import annotations

import re

from tal_bench.system.text import printable

SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
"""Code within a sentence: text between two equal runs of backticks."""
SPECIAL = re.compile(r"[\\`*<>|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|&(?=#?\w+;)")
"""Characters that Markdown does not take as they are; underscores within words and lone brackets are text."""


def code(text: str) -> str:
    """Mark a name as code within a sentence; longer runs of backticks enclose a name that contains some."""
    text = printable(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    fence = "`" * (longest + 1)
    return f"{fence}{space}{text}{space}{fence}"


def parts(sentence: str) -> list[tuple[str, bool]]:
    """Return the parts of a sentence, each with whether it is code."""
    found, end = [], 0
    for span in SPAN.finditer(sentence):
        inner = span[2]
        if "`" in inner and inner.startswith(" ") and inner.endswith(" "):
            inner = inner[1:-1]
        found += [(sentence[end : span.start()], False), (inner, True)]
        end = span.end()
    return [(text, is_code) for text, is_code in (*found, (sentence[end:], False)) if text]


def plain(sentence: str) -> str:
    """Return a sentence without the marks of code, on one line."""
    return printable("".join(text for text, _ in parts(sentence)))


def markdown(sentence: str) -> str:
    """Return a sentence as Markdown, with names as code and all else as it is."""
    return "".join(code(text) if is_code else escape_markdown(text) for text, is_code in parts(sentence))


def escape_markdown(text: str) -> str:
    """Return plain text as Markdown on one line, so that none of it is markup."""
    return SPECIAL.sub(r"\\\g<0>", printable(text))
