"""Tables and sentences of a comparison for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from tal_bench.report.common.markup import plain
from tal_bench.report.common.tables import BEST, Cell, Table
from tal_bench.report.common.terminal_tables import INDENT, print_groups
from tal_bench.report.comparison import sentences, tables
from tal_bench.report.comparison.data import StudyComparison
from tal_bench.system.console import output_console
from tal_bench.system.text import printable

LARGEST_MATRIX = 10
"""Number of rows up to which the matrix of wins, ties and losses is printed; files always have it."""


def print_comparison(comparison: StudyComparison, console: Console | None = None) -> None:
    """Print accuracy, ranks, wins and costs of a comparison, its findings and notes.

    Args:
        comparison: Result of `compare`.
        console: Console to print to; standard output by default.
    """
    target = console or output_console()
    found = {
        f"{sentences.title(comparison)}: average mAP in percent": tables.accuracy_table(comparison),
        "Ranks, and wins, ties and losses against all other rows": tables.ranks_table(comparison),
        "Wins/ties/losses, row against column": _matrix(comparison),
        "Costs": tables.costs_table(comparison, target.width),
    }
    for title, table in found.items():
        if table is not None:
            _print(table, title, target)
            target.print()
    lines = [*sentences.headline(comparison), *sentences.findings(comparison)]
    for line in (*lines, *sentences.cautions(comparison), *sentences.remarks(comparison)):
        for part in Text(plain(line)).wrap(target, target.width - INDENT):
            target.print(Text(" " * INDENT).append(part), soft_wrap=True)


def _matrix(comparison: StudyComparison) -> Table | None:
    table = tables.outcomes_table(comparison)
    return table if table is not None and len(table.columns) <= LARGEST_MATRIX + 1 else None


def _print(table: Table, title: str, target: Console) -> None:
    def text(cell: Cell) -> Text:
        return Text(printable(cell.line), style="bold" if cell.classes == BEST else "")

    print_groups(
        target,
        [column.line for column in table.columns],
        {group.name: [[text(cell) for cell in line] for line in group.lines] for group in table.groups},
        title=title,
        text_columns=[k for k, column in enumerate(table.columns) if column.text],
    )
