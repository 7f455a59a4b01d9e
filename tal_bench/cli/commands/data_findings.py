"""How `tal-bench data check` shows what it found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from tal_bench.cli.text import plain
from tal_bench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from tal_bench.data.checks.dataset_check import CheckReport

WIDE = 1 << 14
"""Characters of a line that is not shown on a terminal: a program that reads it wants no line breaks."""
SHARES = ("background", "overlap")
COUNTS = ("videos", "segments", "classes")


def print_report(report: CheckReport) -> None:
    """Statistics of every split, a table of findings, and a line that counts."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    if report.parts:
        _print_statistics(report.dataset, report.statistics, console)
    if report.findings:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("", "kind", "where", "what"):
            table.add_column(name, overflow="fold")
        for finding in report.shown():
            colour = "red" if finding.severity == "error" else "yellow"
            table.add_row(
                finding.severity, finding.kind, plain(finding.file), plain(finding.problem), style=colour
            )
        if any(finding.file.startswith(f"{report.folder}/") for finding in report.findings):
            console.print(f"in {plain(str(report.folder))}:", highlight=False, soft_wrap=True)
        console.print(table)
    console.print(f"{report.videos} videos, {report.files} feature files looked for", highlight=False)


def _print_statistics(name: str, statistics: pd.DataFrame, console: Console) -> None:
    from rich.table import Table

    table = Table(title=plain(name), box=None, title_justify="left", padding=(0, 2, 0, 0))
    table.add_column("")
    for part in statistics.index:
        table.add_column(plain(str(part)), justify="right")
    for column in statistics.columns:
        table.add_row(plain(_words(column)), *(_number(column, value) for value in statistics[column]))
    console.print(table)


def _words(column: str) -> str:
    unit = "%" if column in SHARES else "s" if column.startswith(("segment_", "video_")) else ""
    return column.replace("_", " ") + (f" [{unit}]" if unit else "")


def _number(column: str, value: float) -> str:
    if math.isnan(value):
        return "–"
    if column in COUNTS:
        return f"{value:.0f}"
    return f"{100 * value:.1f}" if column in SHARES else f"{value:.2f}"


def picture_file(path: Path) -> Path:
    """Where the picture goes, checked before the work starts.

    Raises:
        InputError: not an image that can be written, or no such folder.
    """
    from tal_bench.data.checks.picture import FORMATS

    where = f"--picture {path}"
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            f"unknown type of picture '{path.suffix}'", where=where, hint=f"give {', '.join(FORMATS)}"
        )
    if not path.parent.is_dir() or path.is_dir():
        raise InputError("no such folder" if not path.is_dir() else "is a folder", where=where)
    return path


def save_picture(report: CheckReport, path: Path) -> None:
    """Draw the labels of a dataset into a file."""
    from tal_bench.data.checks.picture import picture
    from tal_bench.system.files import write_atomically

    write_atomically(path, picture(report.dataset, report.parts, report.classes, path.suffix.lower()))
