"""Layout of tables on a terminal: no word and no number is split over lines.

Text wraps between words, numbers stay on one line. A table that is still too wide is printed in another form,
the first of these that fits:

- several blocks of columns, each of which starts with the first column,
- names above: the first column has lines of its own, and the others are below it,
- a list: every cell has lines of its own, after the heading of its column.

Only words longer than the whole terminal are broken.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tal_bench.system.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP, TIGHT = 2, 1
"""Spaces between two columns, and in a table that else is too wide."""
INDENT = 2
Row = Sequence["str | Text"]


def print_table(
    console: Console,
    headings: Sequence[str],
    rows: Iterable[Row],
    *,
    title: str = "",
    text_columns: Collection[int] = (0,),
) -> None:
    """Print a table that fits the console without splitting a word or a number.

    Args:
        console: Console to print to.
        headings: Headings of the columns; no heading is shown if all are empty.
        rows: Cells of each row. A `Text` is printed with its style and its line breaks.
        title: Line above the table.
        text_columns: Positions of the columns that are left-aligned and may wrap. The cells of the other
            columns, numbers, are right-aligned and stay on one line.
    """
    print_groups(console, headings, {"": rows}, title=title, text_columns=text_columns)


def print_groups(
    console: Console,
    headings: Sequence[str],
    groups: Mapping[str, Iterable[Row]],
    *,
    title: str = "",
    text_columns: Collection[int] = (0,),
) -> None:
    """Print a table whose rows are in groups with headings, which may be empty; else as `print_table`."""
    cells = {name: [list(map(_text, row)) for row in rows] for name, rows in groups.items()}
    table = _Table(console, list(map(_text, headings)), cells, text_columns)
    if title:
        for line in table.wrap(_text(title, "italic"), console.width):
            console.print(line, soft_wrap=True)
    for line in table.lines():
        line.rstrip()
        console.print(line, soft_wrap=True)


def _text(value: str | Text, style: str = "") -> Text:
    from rich.text import Text

    return value if isinstance(value, Text) else Text(printable(value), style=style)


@dataclass(frozen=True)
class _Table:
    """Cells of a table and the console that they have to fit."""

    console: Console
    headings: list[Text]
    groups: Mapping[str, list[list[Text]]]
    text_columns: Collection[int]

    def lines(self) -> Iterator[Text]:
        """Yield the lines of the table in the first form that fits."""
        width, needs = self.console.width, [self._need(k) for k in range(len(self.headings))]
        others = range(1, len(needs))
        names = max(needs[0], min(self._want(0), width // 3))  # preferably on one line
        for first, gap in ((names, GAP), (names, TIGHT), (needs[0], GAP)):
            if first + sum(needs[1:]) + gap * len(others) <= width:
                yield from self._block(self._widths([0, *others], [first, *needs[1:]], width, gap), gap)
                return
        if any(k in self.text_columns for k in others):
            yield from self._list()
        elif names <= width // 3 and all(names + GAP + needs[k] <= width for k in others):
            yield from self._blocks([names, *needs[1:]], width - names - GAP, [0])
        elif all(INDENT + needs[k] <= width for k in others):
            yield from self._blocks(needs, width - INDENT, [])
        else:
            yield from self._list()

    def wrap(self, text: Text, width: int) -> list[Text]:
        """Return the lines of a text; only words longer than the width are broken."""
        return list(text.wrap(self.console, max(width, 1), overflow="fold")) or [text]

    def _cells(self, k: int) -> list[Text]:
        return [row[k] for rows in self.groups.values() for row in rows]

    def _want(self, k: int) -> int:
        """Return the width at which nothing wraps."""
        from rich.cells import cell_len

        lines = [line for cell in self._cells(k) for line in cell.plain.split("\n")]
        return max([self.headings[k].cell_len, *map(cell_len, lines)])

    def _need(self, k: int) -> int:
        """Return the width at which the heading takes two lines, and no word of it and no number is split."""
        from rich.cells import cell_len

        words = self.headings[k].plain.split()
        heading = min(
            (
                max(cell_len(" ".join(words[:cut])), cell_len(" ".join(words[cut:])))
                for cut in range(1, len(words) + 1)
            ),
            default=0,
        )
        return max(heading, self._content(self._cells(k), k))

    def _content(self, cells: Sequence[Text], k: int) -> int:
        """Return the width of the longest number, or of the longest word of a column of texts."""
        from rich.cells import cell_len

        parts = [
            p for c in cells for p in (c.plain.split() if k in self.text_columns else c.plain.split("\n"))
        ]
        return max(map(cell_len, parts), default=0)

    def _widths(self, columns: Sequence[int], needs: Sequence[int], width: int, gap: int) -> dict[int, int]:
        """Share the room that the needs leave, first among the columns that want least of it."""
        wants = {k: max(self._want(k) - needs[k], 0) for k in columns}
        room = max(width - sum(needs[k] for k in columns) - gap * (len(columns) - 1), 0)
        widths = dict.fromkeys(columns, 0)
        for position, k in enumerate(sorted(columns, key=lambda k: wants[k])):
            extra = min(wants[k], room // (len(columns) - position))
            widths[k] = needs[k] + extra
            room -= extra
        return widths

    def _blocks(self, needs: Sequence[int], room: int, first: list[int]) -> Iterator[Text]:
        """Yield blocks of about the same number of columns, after the columns `first`, or below the names."""
        from rich.text import Text

        count = len(_split(needs, room, len(needs)))
        blocks = _split(needs, room, math.ceil((len(needs) - 1) / count))
        for position, block in enumerate(blocks):
            if position:
                yield Text("")
            columns = [*first, *block]
            width = self.console.width if first else room
            yield from self._block(self._widths(columns, needs, width, GAP), GAP)

    def _block(self, widths: Mapping[int, int], gap: int) -> Iterator[Text]:
        """Yield the lines of columns of these widths; column 0 is above them if it is not among them."""
        above = 0 not in widths
        if any(heading.plain for heading in self.headings):
            yield from self._row(self.headings, widths, gap, above, bottom=True)
        for name, rows in self.groups.items():
            if name:
                yield from self.wrap(_text(name, "italic dim"), self.console.width)
            for row in rows:
                yield from self._row(row, widths, gap, above)

    def _row(
        self, cells: Sequence[Text], widths: Mapping[int, int], gap: int, above: bool, bottom: bool = False
    ) -> Iterator[Text]:
        """Yield the lines of a row; `bottom` aligns its cells at their last line."""
        from rich.text import Text

        if above:
            yield from self.wrap(cells[0], self.console.width)
        wrapped = {k: self.wrap(cells[k], width) for k, width in widths.items()}
        height = max(map(len, wrapped.values()), default=0)
        for index in range(height):
            line = Text(" " * INDENT if above else "")
            for position, (k, width) in enumerate(widths.items()):
                own = index - (height - len(wrapped[k]) if bottom else 0)
                part = wrapped[k][own].copy() if 0 <= own < len(wrapped[k]) else Text("")
                part.rstrip()
                space = " " * (width - part.cell_len)
                line.append(" " * gap if position else "")
                for piece in (part, space) if k in self.text_columns else (space, part):
                    line.append(piece)
            yield line

    def _list(self) -> Iterator[Text]:
        """Yield every cell on lines of its own, beside the heading of its column, or below it."""
        width, (first, *heads) = self.console.width, self.headings
        margin = INDENT + max((head.cell_len + GAP for head in heads if head.plain), default=0)
        if first.plain:
            yield from self.wrap(first, width)
        for name, rows in self.groups.items():
            if name:
                yield from self.wrap(_text(name, "italic dim"), width)
            for row in rows:
                yield from self.wrap(row[0], width)
                for k, head in enumerate(heads, 1):
                    content = self._content([row[k]], k)
                    if margin + content <= width:
                        yield from self._indented(row[k], margin, head)
                        continue
                    if head.plain:
                        yield from self._indented(head, max(min(INDENT, width - head.cell_len), 0))
                    yield from self._indented(row[k], max(min(2 * INDENT, width - content), 0))

    def _indented(self, text: Text, left: int, label: Text | None = None) -> Iterator[Text]:
        """Yield the lines of a text behind a margin, which has a label on the first line."""
        from rich.text import Text

        for index, line in enumerate(self.wrap(text, self.console.width - left)):
            margin = Text(" " * INDENT).append(label) if label and not index else Text("")
            yield Text("").append(margin).append(" " * (left - margin.cell_len)).append(line)


def _split(needs: Sequence[int], room: int, limit: int) -> list[list[int]]:
    """Return blocks of columns other than the first that fit the room, each with at most `limit`."""
    blocks: list[list[int]] = [[]]
    for k in range(1, len(needs)):
        taken = sum(needs[other] + GAP for other in blocks[-1])
        if blocks[-1] and (taken + needs[k] > room or len(blocks[-1]) >= limit):
            blocks.append([])
        blocks[-1].append(k)
    return blocks
