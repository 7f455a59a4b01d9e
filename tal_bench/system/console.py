"""Consoles that print names as they are, not as markup."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tal_bench.system.text import printable

if TYPE_CHECKING:
    from rich.console import Console

UNLIMITED = 1 << 14
"""Width of output that goes to a file or to another program, so that these read whole lines."""


def output_console() -> Console:
    """Return the console of standard output: as wide as the terminal or `COLUMNS`, else without limit."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and not console.is_jupyter and "COLUMNS" not in os.environ:
        console.width = UNLIMITED
    return console


def message_console() -> Console:
    """Return the console of standard error, for progress and notes."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def print_line(console: Console, text: str) -> None:
    """Print text on one line, which is not wrapped."""
    console.print(printable(text), soft_wrap=True)
