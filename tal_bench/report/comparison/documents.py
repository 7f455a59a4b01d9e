"""Comparison as Markdown, LaTeX, HTML page and plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from tal_bench.report.common.markup import escape_markdown
from tal_bench.report.common.markup import markdown as as_markdown
from tal_bench.report.common.page_parts import Section, render_page, vector_picture
from tal_bench.report.common.tables import Table, latex_table, markdown_table
from tal_bench.report.comparison import sentences, tables
from tal_bench.report.comparison.data import StudyComparison
from tal_bench.report.comparison.figures import FIGURES
from tal_bench.system.text import printable

TEXTS = {
    "Accuracy": "Average mAP in percent; compared rows with a common letter cannot be told apart.",
    "Ranks": "1 is the largest average mAP on a dataset; wins, ties and losses against all other rows.",
    "Wins, ties and losses": "Number of datasets on which the row clearly wins against the column, cannot be "
    "told apart from it, and clearly loses.",
    "All pairs": "Differences of average mAP in points, row minus column; bold where the simultaneous 95 % "
    "interval excludes 0.",
    "Cost": "Cost of the detector, and of one minute of video from the file to the segments.",
}
"""Explanation of the tables of each section."""


def named_tables(comparison: StudyComparison) -> dict[str, list[Table]]:
    """Return the tables of a comparison by the title of their section, without empty ones."""
    pairs = tables.pair_tables(comparison)
    several = len(comparison.datasets) > 1
    found: dict[str, list[Table | None]] = {
        "Accuracy": [tables.accuracy_table(comparison)],
        "Ranks": [tables.ranks_table(comparison)],
        "Wins, ties and losses": [tables.outcomes_table(comparison)],
        "All pairs": [replace(t, title=name if several else "") for name, t in pairs.items()],
        "Cost": [tables.costs_table(comparison)],
    }
    kept = {title: [table for table in given if table is not None] for title, given in found.items()}
    return {title: given for title, given in kept.items() if given}


def markdown(comparison: StudyComparison) -> str:
    """Return the comparison as Markdown."""

    def points(lines: list[str]) -> str:
        return "\n".join(f"- {as_markdown(line)}" for line in lines)

    parts = [f"# {escape_markdown(sentences.title(comparison))}"]
    parts += [as_markdown(line) for line in sentences.headline(comparison)]
    parts.append(points(sentences.cautions(comparison)))
    for title, found in named_tables(comparison).items():
        parts += [f"## {title}", TEXTS[title]]
        for table in found:
            parts += [f"### {escape_markdown(table.title)}" if table.title else "", markdown_table(table)]
        if title == "All pairs":
            parts.append(points(sentences.findings(comparison)))
    parts += ["## Notes", points(sentences.remarks(comparison))]
    parts += ["## Provenance", points(sentences.provenance(comparison))]
    return "\n\n".join(filter(None, parts)) + "\n"


def latex(comparison: StudyComparison) -> str:
    """Return the tables for LaTeX with booktabs, with provenance and notes as comments."""
    comments = [*sentences.provenance(comparison), *sentences.cautions(comparison)]
    lines = ["% requires \\usepackage{booktabs,graphicx}"]
    lines += [f"% {printable(line)}" for line in [*comments, *sentences.remarks(comparison)]]
    for title, found in named_tables(comparison).items():
        for table in found:
            lines += [f"% {printable(f'{title} {table.title}'.rstrip())}", latex_table(table), "\\bigskip\n"]
    return "\n".join(lines)


def page(comparison: StudyComparison, figures: Mapping[str, bytes]) -> str:
    """Return the HTML page, given the SVG of each drawn figure."""

    def section(title: str, found: list[Table]) -> Section:
        drawn = [
            vector_picture(figures[f.name], f.name, f.caption)
            for f in FIGURES
            if f.section == title and f.name in figures
        ]
        points = sentences.findings(comparison) if title == "All pairs" else []
        return Section(title, [TEXTS[title]], found, points, drawn)

    sections = [section(title, found) for title, found in named_tables(comparison).items()]
    return render_page(
        title=sentences.title(comparison),
        description="",
        warnings=sentences.cautions(comparison),
        headline=sentences.headline(comparison),
        sections=[
            *sections,
            Section("Notes", points=sentences.remarks(comparison)),
            Section("Provenance", points=sentences.provenance(comparison)),
        ],
        source=" · ".join(sentences.source(comparison)),
        rows=list(
            dict.fromkeys(row.name for d in comparison.datasets for row in d.rows if row.mean is not None)
        ),
    )


def summary(comparison: StudyComparison) -> dict[str, Any]:
    """Return the content of `summary.json`, with mAP in percent."""

    def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
        return found

    return {
        "datasets": [dataset.name for dataset in comparison.datasets],
        "rows": records(comparison.table()),
        "pairs": records(comparison.pairs()),
        "ranks": [{"row": row, **asdict(rank)} for row, rank in comparison.ranks.items()],
        "outcomes": records(comparison.wins()),
        "headline": sentences.headline(comparison),
        "findings": sentences.findings(comparison),
        "provenance": sentences.provenance(comparison),
        "notes": [*sentences.cautions(comparison), *sentences.remarks(comparison)],
    }
