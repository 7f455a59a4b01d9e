"""Table of a study for the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich.console import Console
from rich.text import Text

from tal_bench.report.common.markup import plain
from tal_bench.report.common.tables import BEST
from tal_bench.report.common.terminal_tables import INDENT, print_groups
from tal_bench.report.study import notes
from tal_bench.report.study.collect import KINDS, ReportData
from tal_bench.report.study.columns import Column, cells, shown
from tal_bench.results.columns import TABLES
from tal_bench.system.console import output_console
from tal_bench.system.text import printable


def print_study(study: ReportData, console: Console | None = None) -> None:
    """Print the table of a study with its interaction and notes, and the answer last.

    Args:
        study: Result of `collect`.
        console: Console to print to; standard output by default.
    """
    target = console or output_console()
    columns = _columns(study, target.width)
    title = f"{study.record.spec.name}: mAP in percent on {study.record.dataset}"
    rest = cells(study, columns)
    groups: dict[str, list[list[str | Text]]] = {
        KINDS[kind]: [
            [
                row.label,
                *(Text(printable(c.line), style="bold" if c.classes == BEST else "") for c in rest[row.name]),
            ]
            for row in members
        ]
        for kind, members in groupby(study.rows, key=lambda row: row.record.kind)
    }
    print_groups(
        target,
        ["Row", *(column.terminal_heading for column in columns)],
        groups,
        title=title if study.complete else f"{title} (incomplete)",
        text_columns=[0, *(k for k, column in enumerate(columns, 1) if column.text)],
    )
    target.print()
    bold = notes.bold(study) if target.is_terminal else []
    _print_lines(target, [*notes.interaction(study), *notes.remarks(study), *bold])
    answer = [*notes.headline(study), *notes.cautions(study), *notes.tuning_luck(study)]
    if answer:
        target.print()
        _print_lines(target, answer)


def _print_lines(target: Console, lines: Iterable[str]) -> None:
    """Print lines, indented and wrapped to the width."""
    for line in lines:
        for part in Text(plain(line)).wrap(target, target.width - INDENT):
            target.print(Text(" " * INDENT).append(part), soft_wrap=True)


def _columns(study: ReportData, width: int) -> list[Column]:
    """Return the columns that fit the width."""
    found = {c.key: c for table in TABLES for c in shown(study, table)}
    return [c for c in found.values() if c.terminal is not None and width >= c.terminal]
