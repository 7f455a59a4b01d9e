"""The table of a study for a terminal."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tal_bench.report.study import notes as words
from tal_bench.report.study.collect import Row, Study
from tal_bench.report.study.tables import GROUPS, Column, accuracy, costs

WIDER, WIDE, NARROW = 140, 112, 96
"""Terminal columns from which on every tIoU and every total is shown, from which on modalities are, and below
which model sizes are not."""
SHORT = {
    "Params (M) ↓": "M par.",
    "GMACs ↓": "GMACs",
    "Latency, median (ms) ↓": "ms",
    "Total (s/min) ↓": "s/min",
}


def print_study(study: Study, console: Console | None = None) -> None:
    """Print the table, what the intervals say and what to keep in mind.

    Args:
        study: as `collect` gives it.
        console: where to; standard output by default.
    """
    target = console or Console()
    target.print(render(study, target.width))


def render(study: Study, width: int = 120) -> RenderableType:
    """The same as a renderable, for a terminal of so many columns."""
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


def _columns(study: Study, width: int) -> list[tuple[str, Column]]:
    """Header and column, fewer than in a file."""
    name, modalities, _, *rest = accuracy(study)
    at = rest[: len(study.metrics)]
    chosen = at if len(at) <= 3 or width >= WIDER else [at[0], at[len(at) // 2], at[-1]]
    average, *against = rest[len(study.metrics) :]
    shown = [("Row", name), *([("Reads", modalities)] if width >= WIDE else [])]
    shown += [(column.header.removesuffix(" ↑").replace("@0.", "@."), column) for column in chosen]
    shown += [("Avg ↑", average), *((c.header.replace(" [95 % CI]", ""), c) for c in against[:1])]
    kept = list(SHORT) if width >= NARROW else ["Total (s/min) ↓"]
    shown += [(SHORT[c.header], c) for c in costs(study) if c.header in kept]
    others = [c for c in costs(study) if c.header.startswith("Total with")] if width >= WIDER else []
    return shown + [(c.header.removeprefix("Total ").removesuffix(" (s/min) ↓"), c) for c in others]


def _cells(row: Row, columns: list[Column], best: list[set[str]]) -> list[Text]:
    return [
        Text(column.text(row), style="bold" if row.name in names else "")
        for column, names in zip(columns, best, strict=True)
    ]


def _footer(study: Study) -> list[str]:
    shown = [f for f in words.findings(study) if f.startswith("Interaction")]
    return [*shown, *words.notes(study)]
