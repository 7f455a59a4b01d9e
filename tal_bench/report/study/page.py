"""Report as a self-contained HTML page with tables, figures and provenance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from tal_bench.report.common.page_parts import Cell, Group, Header, Picture, Section, Table, picture
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.literature import CAUTION, reported
from tal_bench.report.study.page_extras import diagnosis_section, robustness_section
from tal_bench.report.study.tables import (
    GROUPS,
    Column,
    accuracy,
    costs,
    reported_cells,
    reported_headers,
    tuned_settings,
)

CAPTIONS = {
    "figure": "Average mAP against cost.",
    "seeds": "Average mAP of every seed, and paired differences with 95 % intervals.",
    "tiou": "mAP and gain over none at each tIoU.",
    "classes": "Gain over none per class.",
    "pareto": "Fronts of the search on validation and test data.",
    "cost": "Seconds per minute of video for each step.",
    "training": "Loss on labels and validation mAP over epochs.",
    "tuning": "Validation mAP of all trials.",
    "importances": "Importances of settings for validation mAP.",
    "slices": "Validation mAP against each setting.",
}


def page(study: ReportData, figures: Mapping[str, bytes], folder: Path | None = None) -> str:
    """Return the HTML page of a report.

    Args:
        study: Result of `collect`.
        figures: PNG content of each drawn figure.
        folder: Folder of the study, whose subfolders `diagnosis` and `robustness` are included; None to
            leave them out.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    environment.filters["code"] = _code
    text = resources.files("tal_bench.report.study").joinpath("page.html").read_text(encoding="utf-8")
    sections = [
        _accuracy(study, figures),
        _section("Where the gains are", ("tiou", "classes"), figures),
        _cost(study, figures),
        _reported(study),
        robustness_section(folder),
        diagnosis_section(folder),
        _section("Training", ("training",), figures),
        _settings(study, figures),
        Section("Provenance", points=[*notes.provenance(study), *notes.notes(study)]),
    ]
    return environment.from_string(text).render(
        title=notes.title(study),
        description=study.record.spec.description,
        warnings=notes.cautions(study),
        headline=notes.headline(study),
        sections=[section for section in sections if section is not None],
        source=" · ".join(notes.source(study)),
    )


def _code(text: str) -> str:
    """Escape text for HTML and convert backticks to code elements."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if k % 2 else escape(part) for k, part in enumerate(parts)
    )


def _pictures(names: Sequence[str], figures: Mapping[str, bytes]) -> list[Picture]:
    return [picture(figures[name], CAPTIONS[name]) for name in names if name in figures]


def _section(title: str, names: Sequence[str], figures: Mapping[str, bytes]) -> Section | None:
    pictures = _pictures(names, figures)
    return Section(title, figures=pictures) if pictures else None


def _accuracy(study: ReportData, figures: Mapping[str, bytes]) -> Section:
    text = ["mAP in percent at each tIoU, and their average as mean ± standard deviation over seeds."]
    return Section(
        "Accuracy",
        text,
        [_table(study, accuracy(study))],
        notes.findings(study),
        _pictures(("figure", "pareto", "seeds"), figures),
    )


def _cost(study: ReportData, figures: Mapping[str, bytes]) -> Section | None:
    columns = costs(study)
    if not columns:
        return None
    return Section(
        "Cost",
        ["Cost of the detector, and of one minute of video from the file to the segments."],
        [_table(study, columns)],
        figures=_pictures(("cost",), figures),
    )


def _reported(study: ReportData) -> Section | None:
    rows = reported(study)
    if not rows:
        return None
    headers = [Header(h, text=k < 3) for k, h in enumerate(reported_headers(study))]
    lines = [
        [
            *(
                Cell(text, classes="text" if k < 3 else "")
                for k, text in enumerate(reported_cells(study, row))
            ),
            Cell(
                row.source, ", ".join(filter(None, (row.setting, row.url.removeprefix("https://")))), "text"
            ),
        ]
        for row in rows
    ]
    table = Table([*headers, Header("Source", text=True)], [Group("", lines)])
    return Section("Reported in the literature", [CAUTION], [table])


def _settings(study: ReportData, figures: Mapping[str, bytes]) -> Section | None:
    points = tuned_settings(study.rows)
    pictures = _pictures(("tuning", "slices", "importances"), figures)
    return Section("Settings", points=points, figures=pictures) if points or pictures else None


def _table(study: ReportData, columns: Sequence[Column]) -> Table:
    """Return the table of some columns, with modalities, teachers and model below the name of the row."""
    name, *others = [c for c in columns if c.header not in ("Modalities", "Teachers", "Model")]
    headers = {c.header for c in columns}
    best = [column.best(study.rows) for column in others]
    groups = []
    for kind, members in groupby(study.rows, key=lambda row: row.record.kind):
        lines = []
        for row in members:
            cells = [
                _cell(column, row, row.name in names) for column, names in zip(others, best, strict=True)
            ]
            lines.append([Cell(name.text(row), _details(row, headers)), *cells])
        groups.append(Group(GROUPS[kind], lines))
    return Table([Header("Row", text=True), *(Header(c.header) for c in others)], groups)


def _details(row: Row, headers: set[str]) -> str:
    """Return modalities and teachers of a row, or model and modalities in a table without teachers."""
    if "Teachers" not in headers:
        return f"{row.record.model}, {row.record.modalities}"
    teachers = " + ".join(row.record.teachers.values())
    return f"{row.record.modalities} ← {teachers}" if teachers else row.record.modalities


def _cell(column: Column, row: Row, best: bool) -> Cell:
    """Return the cell of a row, with an interval below its estimate."""
    text = column.text(row)
    main, bracket, ends = text.partition(" [")
    classes = "unclear" if text.startswith(notes.UNCLEAR) else "best" if best else ""
    return Cell(main, bracket.strip() + ends, classes)
