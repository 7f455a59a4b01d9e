"""Tables on a terminal: lines wrap between words, and tables that are too wide are printed in blocks."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = 2
"""Spaces between two columns."""


def output_console(piped_width: int | None = None) -> Console:
    """Return the console of standard output.

    Args:
        piped_width: Width when standard output is not a terminal and `COLUMNS` is not set; 80 by default.
    """
    from rich.console import Console

    console = Console()
    if piped_width is None or console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=piped_width)


def print_table(
    console: Console,
    headings: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str = "",
    text_columns: Collection[int] = (0,),
) -> None:
    """Print a table that fits the console without breaking a word.

    Text wraps between words. If that is not enough, the columns are printed in several blocks, each of which
    starts with the first column. Only words longer than a third of the console, such as paths, are folded.

    Args:
        console: Console to print to.
        headings: Headings of the columns; no heading is shown if all are empty.
        rows: Cells of each row. A `Text` is printed with its style.
        title: Line above the table.
        text_columns: Positions of the columns that are left-aligned and may wrap. The cells of the other
            columns, numbers, are right-aligned and stay on one line.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[cell if isinstance(cell, Text) else _text(cell) for cell in row] for row in rows]
    columns = [[heading, *(row[k].plain for row in cells)] for k, heading in enumerate(headings)]
    if title:
        console.print(_text(title, "italic"), soft_wrap=console.width > len(title))
    for number, block in enumerate(_blocks(columns, text_columns, console.width)):
        if number:
            console.print()
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=any(headings))
        for k, width in block.items():
            table.add_column(
                _text(headings[k]),
                justify="left" if k in text_columns else "right",
                width=width,
                overflow="fold",
            )
        for row in cells:
            table.add_row(*(row[k] for k in block))
        console.print(table)


def _text(value: str, style: str = "") -> Text:
    from rich.text import Text

    from tal_bench.cli.text import printable

    return Text(printable(value), style=style)


def _blocks(
    columns: Sequence[Sequence[str]], text_columns: Collection[int], width: int
) -> list[dict[int, int]]:
    """Return the blocks of a table: position to width of their columns."""
    minimum: list[int] = []
    for longest_word in (width, width // 3):
        minimum = [
            _minimum_width(column, k in text_columns, longest_word) for k, column in enumerate(columns)
        ]
        if sum(minimum) + GAP * (len(minimum) - 1) <= width:
            break
    if columns:  # the first column, names of rows, stays on one line where there is room
        room = width - sum(minimum) - GAP * (len(minimum) - 1)
        minimum[0] = max(minimum[0], min(_line_width(columns[0]), max(minimum[0] + room, width // 3)))
    blocks = _split(minimum, width, limit=len(columns))
    blocks = _split(minimum, width, limit=math.ceil((len(columns) - 1) / len(blocks)))
    return [_widths(block, columns, minimum, width) for block in blocks]


def _split(minimum: Sequence[int], width: int, limit: int) -> list[list[int]]:
    """Return blocks of columns that fit the width, each with the first column and at most `limit` others."""
    blocks: list[list[int]] = [[0]]
    for k in range(1, len(minimum)):
        taken = sum(minimum[other] + GAP for other in blocks[-1])
        if len(blocks[-1]) > 1 and (taken + minimum[k] > width or len(blocks[-1]) > limit):
            blocks.append([0])
        blocks[-1].append(k)
    return blocks


def _minimum_width(column: Sequence[str], is_text: bool, longest_word: int) -> int:
    """Return the width at which the heading takes two lines, and no word of it and no number is broken."""
    from rich.cells import cell_len

    heading, *cells = column
    words = heading.split(" ")
    heading_width = min(
        max(cell_len(" ".join(words[:k])), cell_len(" ".join(words[k:]))) for k in range(1, len(words) + 1)
    )
    if not is_text:
        return max(heading_width, _line_width(cells))
    word_width = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
    return max(heading_width, min(word_width, longest_word))


def _line_width(cells: Iterable[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for cell in cells for line in cell.splitlines()), default=0)


def _widths(
    block: Sequence[int], columns: Sequence[Sequence[str]], minimum: Sequence[int], width: int
) -> dict[int, int]:
    """Share the room that the minimum widths leave, first among the columns that need least of it."""
    needs = {k: max(_line_width(columns[k]) - minimum[k], 0) for k in block}
    room = max(width - sum(minimum[k] for k in block) - GAP * (len(block) - 1), 0)
    widths = dict.fromkeys(block, 0)
    for position, k in enumerate(sorted(block, key=lambda k: needs[k])):
        extra = min(needs[k], room // (len(block) - position))
        widths[k] = minimum[k] + extra
        room -= extra
    return widths
