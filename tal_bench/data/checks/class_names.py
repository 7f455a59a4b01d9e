"""Check for classes whose names look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from tal_bench.data.findings import Finding

INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Unicode categories of control and format characters and of spaces."""
FILLERS = {
    "\u034f",
    "\u115f",
    "\u1160",
    "\u3164",
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}
"""Characters of other categories that show nothing: joiners, fillers, variation selectors."""


def check_class_names(path: Path, classes: Sequence[str]) -> list[Finding]:
    """Return a warning for classes that differ only in spaces, case, Unicode form or invisible characters.

    Args:
        path: Annotation file.
        classes: Class names.
    """
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_visible(name), []).append(name)
    return [
        Finding("warning", "similar-classes", str(path), f"classes {shown(names)} look alike; are they one?")
        for names in alike.values()
        if len(names) > 1
    ]


def _visible(name: str) -> str:
    """Return what a reader sees of a name, without regard to case."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in text if unicodedata.category(c) not in INVISIBLE and c not in FILLERS)


def shown(names: Sequence[str]) -> str:
    """Return names in quotes, with escapes in place of all but visible ASCII characters."""
    return " and ".join(ascii(name) for name in names)
