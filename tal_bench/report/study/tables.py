"""Tables of accuracy and cost of a study as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pandas as pd

from tal_bench.report.common.markup import code, escape_markdown
from tal_bench.report.common.markup import markdown as as_markdown
from tal_bench.report.common.tables import (
    DASH,
    Cell,
    Group,
    Header,
    Table,
    csv_table,
    latex_table,
    markdown_table,
)
from tal_bench.report.study import notes
from tal_bench.report.study.collect import KINDS, ReportData, Row
from tal_bench.report.study.columns import cells, line, shown
from tal_bench.report.study.literature import CAUTION, reported, reported_table
from tal_bench.report.study.pairs import pairs_frame, pairs_table, sentences
from tal_bench.report.study.trials import trials_frame
from tal_bench.results.columns import TABLES, TableName
from tal_bench.results.dataframe import load_folder
from tal_bench.system.text import printable

TRAINING = "Cost of a training step, teachers included, and parameters that are dropped afterwards"
"""Heading of the table `training`."""


def table(study: ReportData, name: TableName) -> Table | None:
    """Return a table of the study, with a group of lines per kind of row; None without columns."""
    if not (columns := shown(study, name)):
        return None
    rest = cells(study, columns)
    groups = [
        Group(
            KINDS[kind] + ("" if kind == "student" else ", trained on labels"),
            [[Cell(row.label if name == "accuracy" else row.name), *rest[row.name]] for row in members],
        )
        for kind, members in groupby(study.rows, key=lambda row: row.record.kind)
    ]
    return Table([Header("Row", text=True), *(column.heading for column in columns)], groups)


def merged(table: Table, between: str) -> Table:
    """Return a table whose other columns of text stand below the first one, for the page."""
    text = [k for k, column in enumerate(table.columns) if k and column.text]

    def line(cells: Sequence[Cell]) -> list[Cell]:
        below = between.join(cells[k].main for k in text if cells[k].main != DASH)
        return [replace(cells[0], below=below), *(c for k, c in enumerate(cells) if k and k not in text)]

    columns = [column for k, column in enumerate(table.columns) if k not in text]
    return Table(columns, [Group(group.name, [*map(line, group.lines)]) for group in table.groups])


def markdown(study: ReportData) -> str:
    """Return the report as Markdown: accuracy, findings, cost, literature, provenance and notes."""
    record = study.record
    parts = [f"# {escape_markdown(record.spec.name)}", escape_markdown(record.spec.description)]
    if not study.complete:
        parts.append("**Incomplete: " + ("runs are missing.**" if record.finished else "unfinished study.**"))
    if accuracy := table(study, "accuracy"):
        parts.append("## Accuracy: mAP in percent at each tIoU, and their average")
        parts.append(markdown_table(accuracy))
    lines = [*notes.findings(study), *sentences(study)]
    parts.append("\n".join(f"- {as_markdown(line)}" for line in lines))
    if matrix := pairs_table(study):
        parts += ["## All pairs: differences of average mAP in points", markdown_table(matrix)]
    if costs := table(study, "costs"):
        parts += ["## Cost of the model and of one minute of video", markdown_table(costs)]
    if training := table(study, "training"):
        parts += [f"## {TRAINING}", markdown_table(training)]
    if literature := reported_table(study, lambda row: Cell(row.origin, row.setting, link=row.url)):
        parts += ["## Reported in the literature", CAUTION, markdown_table(literature)]
    tuned = tuned_settings(study.rows)
    settings = [f"Settings chosen on validation: {'; '.join(tuned)}"] if tuned else []
    lines = [*notes.provenance(study), *settings, *notes.notes(study), *notes.bold(study)]
    parts += ["## Provenance", "\n".join(f"- {as_markdown(line)}" for line in lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def tuned_settings(rows: Sequence[Row]) -> list[str]:
    """Return one line per tuned row with the settings chosen on validation."""
    return [
        f"{code(row.name)} " + ", ".join(f"{k} {v:.3g}" for k, v in row.record.settings.items())
        for row in rows
        if row.record.settings
    ]


def latex(study: ReportData) -> str:
    """Return the tables for LaTeX with booktabs, with provenance and notes as comments."""
    lines = ["% requires \\usepackage{booktabs,graphicx}"]
    lines += [
        f"% {printable(line)}" for line in [*notes.provenance(study), *notes.notes(study), *notes.bold(study)]
    ]
    found = [latex_table(t) for t in (table(study, name) for name in TABLES) if t]
    lines.append("\n\\bigskip\n\n".join(found))
    if literature := reported_table(study):
        lines.append(f"% {CAUTION}")
        lines += [f"% {r.name}, {r.modalities}: {r.origin}, {r.url}" for r in reported(study)]
        lines.append(latex_table(literature))
    return "\n".join(lines)


def pairs_csv(study: ReportData) -> dict[str, str]:
    """Return `pairs.csv`, with one line per pair of student rows; empty if there are no intervals."""
    return {} if study.comparison is None else {"pairs.csv": csv_table(pairs_frame(study.comparison))}


def data_files(study: ReportData, folder: Path) -> dict[str, str]:
    """Return tables that `load_results` reads where the runs are missing, by file name."""
    runs = load_folder(folder) if (folder / "study.json").is_file() else None
    return {
        **({} if runs is None else {"runs.csv": csv_table(runs)}),
        "trials.csv": csv_table(trials_frame(study.rows)),
    }


def csv(study: ReportData) -> str:
    """Return the unrounded numbers as CSV with one line per row."""
    return csv_table(pd.DataFrame([line(study, row) for row in study.rows]))
