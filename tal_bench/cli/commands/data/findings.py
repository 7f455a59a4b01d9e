"""Output of `data check`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tal_bench.cli.tables import output_console, print_table
from tal_bench.cli.text import printable
from tal_bench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from tal_bench.data.checks.dataset_check import CheckReport

SHARES = ("background", "overlap")
COUNTS = ("videos", "segments", "classes")


def print_report(report: CheckReport) -> None:
    """Print the statistics of every split, a table of findings, and the number of videos and files."""
    from rich.text import Text

    console = output_console()
    if report.parts:
        _print_statistics(report.dataset, report.statistics, console)
    if report.findings:
        rows = []
        for finding in report.shown():
            colour = "red" if finding.severity == "error" else "yellow"
            cells = (finding.severity, finding.kind, finding.file, finding.problem)
            rows.append([Text(printable(cell), style=colour) for cell in cells])
        if any(finding.file.startswith(f"{report.folder}/") for finding in report.findings):
            typer.echo(f"in {printable(str(report.folder))}:")
        print_table(console, ("", "kind", "where", "what"), rows, text_columns=range(4))
    typer.echo(f"{report.videos} videos, {report.files} feature files checked")


def _print_statistics(name: str, statistics: pd.DataFrame, console: Console) -> None:
    rows = [
        (_words(column), *(_number(column, value) for value in statistics[column]))
        for column in statistics.columns
    ]
    print_table(console, ("", *map(str, statistics.index)), rows, title=name)


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
    """Check before the work starts that a figure can be written, and return its path.

    Raises:
        InputError: The format is unknown, or the folder does not exist.
    """
    from tal_bench.data.checks.picture import FORMATS

    where = f"--picture {path}"
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"unknown format '{path.suffix}'", where=where, hint=f"give {', '.join(FORMATS)}")
    if not path.parent.is_dir() or path.is_dir():
        raise InputError("no such folder" if not path.is_dir() else "is a folder", where=where)
    return path


def save_picture(report: CheckReport, path: Path) -> None:
    """Write the figure of the labels of a dataset."""
    from tal_bench.data.checks.picture import picture
    from tal_bench.system.files import write_atomically

    write_atomically(path, picture(report.dataset, report.parts, report.classes, path.suffix.lower()))
