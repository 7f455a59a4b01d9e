"""Table of a study for the terminal."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.tables import GROUPS, Column, accuracy, costs

WIDTH_ALL, WIDTH_MODALITIES, WIDTH_SIZES = 140, 112, 96
"""Smallest terminal widths at which all tIoU and totals, the modalities, and the model sizes are shown."""
SHORT_HEADERS = {
    "Params (M) ↓": "M par.",
    "GMACs ↓": "GMACs",
    "Latency, median (ms) ↓": "ms",
    "Total (s/min) ↓": "s/min",
}


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
    for header, _ in columns:
        text = header in ("Row", "Reads")
        table.add_column(header, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    best = [column.best(study.rows) for _, column in columns]
    for kind, members in groupby(study.rows, key=lambda row: row.record.kind):
        table.add_row(Text(GROUPS[kind].split(",")[0], style="italic dim"))
        for row in members:
            table.add_row(*_cells(row, [column for _, column in columns], best))
    lines = [Padding(Text(line.replace("`", "")), (0, 0, 0, 2)) for line in _footer(study)]
    return Group(table, Text(""), *lines)


def _columns(study: ReportData, width: int) -> list[tuple[str, Column]]:
    """Return headers and columns that fit the width."""
    name, modalities, _, *rest = accuracy(study)
    levels = rest[: len(study.metrics)]
    if len(levels) > 3 and width < WIDTH_ALL:
        levels = [levels[0], levels[len(levels) // 2], levels[-1]]
    average, *others = rest[len(study.metrics) :]
    shown = [("Row", name), *([("Reads", modalities)] if width >= WIDTH_MODALITIES else [])]
    shown += [(column.header.removesuffix(" ↑").replace("@0.", "@."), column) for column in levels]
    shown += [("Avg ↑", average), *((c.header.replace(" [95 % CI]", ""), c) for c in others[:1])]
    kept = list(SHORT_HEADERS) if width >= WIDTH_SIZES else ["Total (s/min) ↓"]
    shown += [(SHORT_HEADERS[c.header], c) for c in costs(study) if c.header in kept]
    totals = [c for c in costs(study) if c.header.startswith("Total with")] if width >= WIDTH_ALL else []
    return shown + [(c.header.removeprefix("Total ").removesuffix(" (s/min) ↓"), c) for c in totals]


def _cells(row: Row, columns: list[Column], best: list[set[str]]) -> list[Text]:
    return [
        Text(column.text(row), style="bold" if row.name in names else "")
        for column, names in zip(columns, best, strict=True)
    ]


def _footer(study: ReportData) -> list[str]:
    interaction = [line for line in notes.findings(study) if line.startswith("Interaction")]
    return [*interaction, *notes.notes(study)]
