"""The report as one HTML page that needs nothing else: tables, figures and where they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from tal_bench.report.common.page_parts import Cell, Group, Header, Picture, Section, Table, picture
from tal_bench.report.study import notes as words
from tal_bench.report.study.collect import Row, Study
from tal_bench.report.study.literature import CAUTION, reported
from tal_bench.report.study.page_extras import diagnosis_section, robustness_section
from tal_bench.report.study.tables import (
    GROUPS,
    Column,
    accuracy,
    costs,
    reported_cells,
    reported_headers,
    tuned,
)

SHOWN = {
    "figure": "Average mAP against cost.",
    "seeds": "Every seed, and the paired differences with their 95 % intervals.",
    "tiou": "mAP at each tIoU, and the gain over none there.",
    "classes": "Gain over none per class.",
    "pareto": "The front of the search, on validation and on test.",
    "cost": "Seconds for a minute of video, step by step.",
    "training": "Loss on labels and validation mAP over epochs.",
    "tuning": "The search for settings, trial by trial.",
    "importances": "Which settings explain the differences between trials.",
    "slices": "Validation mAP against each setting.",
}
"""Figure to what it shows, in a sentence."""


def page(study: Study, figures: Mapping[str, bytes], folder: Path | None = None) -> str:
    """The page.

    Args:
        study: as `collect` gives it.
        figures: name to PNG, of those that could be drawn.
        folder: of the study; what lies in its `diagnosis` and `robustness` is shown, too.
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
        Section("Provenance", points=[*words.provenance(study), *words.notes(study)]),
    ]
    return environment.from_string(text).render(
        title=words.title(study),
        description=study.record.spec.description,
        warnings=words.cautions(study),
        headline=words.headline(study),
        sections=[section for section in sections if section is not None],
        source=" · ".join(words.source(study)),
    )


def _code(text: str) -> str:
    """Text with `names` in backticks, for HTML."""
    from markupsafe import Markup, escape

    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if k % 2 else escape(part) for k, part in enumerate(parts)
    )


def _pictures(names: Sequence[str], figures: Mapping[str, bytes]) -> list[Picture]:
    return [picture(figures[name], SHOWN[name]) for name in names if name in figures]


def _section(title: str, names: Sequence[str], figures: Mapping[str, bytes]) -> Section | None:
    shown = _pictures(names, figures)
    return Section(title, figures=shown) if shown else None


def _accuracy(study: Study, figures: Mapping[str, bytes]) -> Section:
    text = ["mAP in percent at each tIoU and on average, mean ± standard deviation over seeds."]
    return Section(
        "Accuracy",
        text,
        [_table(study, accuracy(study))],
        words.findings(study),
        _pictures(("figure", "pareto", "seeds"), figures),
    )


def _cost(study: Study, figures: Mapping[str, bytes]) -> Section | None:
    columns = costs(study)
    if not columns:
        return None
    return Section(
        "Cost",
        ["The detector alone, and one minute of video from the file to the segments."],
        [_table(study, columns)],
        figures=_pictures(("cost",), figures),
    )


def _reported(study: Study) -> Section | None:
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


def _settings(study: Study, figures: Mapping[str, bytes]) -> Section | None:
    points = tuned(study.rows)
    shown = _pictures(("tuning", "slices", "importances"), figures)
    return Section("Settings", points=points, figures=shown) if points or shown else None


def _table(study: Study, columns: Sequence[Column]) -> Table:
    """Columns as in the files, with modalities, teachers and model below the row's name."""
    name, *others = [c for c in columns if c.header not in ("Modalities", "Teachers", "Model")]
    details = {c.header for c in columns}
    best = [column.best(study.rows) for column in others]
    groups = []
    for kind, members in groupby(study.rows, key=lambda row: row.record.kind):
        lines = []
        for row in members:
            cells = [
                _cell(column, row, row.name in names) for column, names in zip(others, best, strict=True)
            ]
            lines.append([Cell(name.text(row), _below(row, details)), *cells])
        groups.append(Group(GROUPS[kind], lines))
    return Table([Header("Row", text=True), *(Header(c.header) for c in others)], groups)


def _below(row: Row, details: set[str]) -> str:
    """What a row reads and learns from, or which model it is, as far as the table says it."""
    if "Teachers" not in details:
        return f"{row.record.model}, {row.record.modalities}"
    taught = " + ".join(row.record.teachers.values())
    return f"{row.record.modalities} ← {taught}" if taught else row.record.modalities


def _cell(column: Column, row: Row, best: bool) -> Cell:
    """A number; an interval below its estimate."""
    text = column.text(row)
    main, bracket, ends = text.partition(" [")
    classes = "unclear" if text.startswith(words.UNCLEAR) else "best" if best else ""
    return Cell(main, bracket.strip() + ends, classes)
