"""Table of a study for the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tal_bench.report.common.tables import BEST
from tal_bench.report.study import notes
from tal_bench.report.study.collect import KINDS, ReportData
from tal_bench.report.study.columns import Column, cells, shown
from tal_bench.results.columns import TABLES


def print_study(study: ReportData, console: Console | None = None) -> None:
    """Print the table of a study with its interaction and notes.

    Args:
        study: Result of `collect`.
        console: Console to print to; standard output by default.
    """
    target = console or Console()
    target.print(render(study, target.width))


def render(study: ReportData, width: int = 120) -> RenderableType:
    """Return the table with its interaction and notes for a terminal of the given width."""
    columns = _columns(study, width)
    title = f"{study.record.spec.name}: mAP in percent on {study.record.dataset}"
    if not study.complete:
        title += " (incomplete)"
    table = Table(title=escape(title), box=None, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    table.add_column("Row", overflow="fold")
    for column in columns:
        align: Literal["left", "right"] = "left" if column.text else "right"
        table.add_column(column.terminal_heading, justify=align, no_wrap=not column.text, overflow="fold")
    rest = cells(study, columns)
    for kind, members in groupby(study.rows, key=lambda row: row.record.kind):
        table.add_row(Text(KINDS[kind], style="italic dim"))
        for row in members:
            texts = [Text(c.line, style="bold" if c.classes == BEST else "") for c in rest[row.name]]
            table.add_row(Text(row.label), *texts)
    notes_below = [*notes.interaction(study), *notes.notes(study)]
    lines = [Padding(Text(line.replace("`", "")), (0, 0, 0, 2)) for line in notes_below]
    return Group(table, Text(""), *lines)


def _columns(study: ReportData, width: int) -> list[Column]:
    """Return the columns that fit the width."""
    found = {c.key: c for table in TABLES for c in shown(study, table)}
    return [c for c in found.values() if c.terminal is not None and width >= c.terminal]
