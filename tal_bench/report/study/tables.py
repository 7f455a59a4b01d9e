"""Tables of accuracy and cost of a study as Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal

import pandas as pd

from tal_bench.report.study import notes
from tal_bench.report.study.collect import BASELINES, ReportData, Row
from tal_bench.report.study.literature import CAUTION, Reported, reported
from tal_bench.results.dataframe import STEPS

GROUPS = {
    "teacher": "Teachers, trained on labels",
    "reference": "References, trained on labels",
    "student": "Students",
}
TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "≈": r"$\approx$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "Δ": r"$\Delta$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "–": "--",
}
RESIZE = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""LaTeX command that shrinks a table to the width of the text if it is wider."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: Header with an arrow for the better direction.
        text: Function that returns the text of a row's cell.
        value: Function that returns the value of a row, to find the best; None if the column has no best.
        better: Whether larger or smaller values are better.
    """

    header: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | None] | None = None
    better: Literal["max", "min"] = "max"

    def best(self, rows: Sequence[Row]) -> set[str]:
        """Return the names of the student rows with the best displayed value; empty if all are equal."""
        if self.value is None:
            return set()
        values = {r.name: v for r in rows if r.record.kind == "student" and (v := self.value(r)) is not None}
        texts = {r.name: self.text(r) for r in rows if r.name in values}
        if len(set(texts.values())) < 2:
            return set()
        best = (max if self.better == "max" else min)(values.values())
        winner = next(name for name, value in values.items() if value == best)
        return {winner} if self.header.startswith("Avg") else {n for n in texts if texts[n] == texts[winner]}


def accuracy(study: ReportData) -> list[Column]:
    """Return the columns of the accuracy table."""

    def at_threshold(metric: str) -> Column:
        return Column(
            f"@{metric.removeprefix('map_').removesuffix('0')} ↑",
            lambda row: notes.number(row.mean(metric)),
            lambda row: row.mean(metric),
        )

    def average_over(metric: str) -> Column:
        ends = metric.removeprefix("map_").replace("-", ":")
        return Column(
            f"Avg @{ends} ↑",
            lambda row: notes.spread(row.mean(metric), row.sd(metric)),
            lambda row: row.mean(metric),
        )

    def difference(base: str) -> Column:
        return Column(f"Δ {base} [95 % CI]", lambda row: notes.interval(row.differences.get(base)))

    bases = [base for base in BASELINES if any(base in row.differences for row in study.rows)]
    return [
        *_name_columns(),
        *map(at_threshold, study.metrics),
        Column("Avg ↑", lambda row: notes.spread(row.mean(), row.sd()), lambda row: row.mean()),
        *map(average_over, study.additional_averages),
        *map(difference, bases),
    ]


def _name_columns() -> list[Column]:
    return [
        Column("Row", lambda row: row.name + (f" ({row.seeds_text})" if row.seeds_text else "")),
        Column("Modalities", lambda row: row.record.modalities),
        Column("Teachers", lambda row: " + ".join(row.record.teachers.values()) or notes.DASH),
    ]


def costs(study: ReportData) -> list[Column]:
    """Return the columns of the cost table; empty if no cost was measured."""
    if not any(row.cost for row in study.rows):
        return []

    def measured(header: str, read: Callable[[Any], float], digits: int) -> Column:
        def value(row: Row) -> float | None:
            return read(row.cost) if row.cost else None

        return Column(header, lambda row: notes.number(value(row), digits), value, "min")

    columns = [
        Column("Row", lambda row: row.name),
        Column("Model", lambda row: row.record.model),
        Column("Modalities", lambda row: row.record.modalities),
        measured("Params (M) ↓", lambda cost: cost.params / 1e6, 2),
        measured("GMACs ↓", lambda cost: cost.gmacs, 2),
        measured("Latency, median (ms) ↓", lambda cost: cost.latency_ms["median"], 1),
        measured("Peak memory (MB) ↓", lambda cost: cost.peak_memory_mb, 0),
    ]
    return columns + _minute_columns(study)


def _minute_columns(study: ReportData) -> list[Column]:
    """Return columns of seconds per minute of video: steps, total, and total with other extractors."""

    def step_column(step: str) -> Column:
        return Column(
            f"{step.capitalize()} (s/min)",
            lambda row: notes.seconds(row.cost.minute.get(step) if row.cost else None),
        )

    def total(header: str, value: Callable[[Row], float | None]) -> Column:
        return Column(header, lambda row: notes.seconds(value(row)), value, "min")

    present = steps(study)
    if not present:
        return []
    others = [
        total(f"Total with {notes.extractor(a)} (s/min) ↓", partial(Row.minute_with, alternative=a))
        for a in alternatives(study)
    ]
    return [*map(step_column, present), total("Total (s/min) ↓", lambda row: row.minute), *others]


def steps(study: ReportData) -> list[str]:
    """Return the measured steps of processing a minute of video, in processing order."""
    measured = {step for row in study.rows if row.cost for step in row.cost.minute}
    return [s for s in STEPS if s in measured] + sorted(measured - set(STEPS))


def alternatives(study: ReportData) -> list[str]:
    """Return the measured alternative extractors of privileged modalities."""
    return sorted({a for row in study.rows if row.cost for a in row.cost.minute_alternatives})


def markdown(study: ReportData) -> str:
    """Return the report as Markdown: accuracy, findings, cost, literature, provenance and notes."""
    record = study.record
    parts = [f"# {record.spec.name}", record.spec.description]
    if not study.complete:
        parts.append("**Incomplete: " + ("runs are missing.**" if record.finished else "unfinished study.**"))
    parts.append("## Accuracy: mAP in percent at each tIoU, and their average")
    parts.append(_markdown_table(accuracy(study), study.rows))
    parts.append("\n".join(f"- {line}" for line in notes.findings(study)))
    if columns := costs(study):
        parts += ["## Cost of the model and of one minute of video", _markdown_table(columns, study.rows)]
    if literature := reported(study):
        parts += ["## Reported in the literature", CAUTION, _reported_markdown(study, literature)]
    tuned = tuned_settings(study.rows)
    settings = [f"Settings chosen on validation: {'; '.join(tuned)}"] if tuned else []
    lines = [*notes.provenance(study), *settings, *notes.notes(study)]
    parts += ["## Provenance", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def tuned_settings(rows: Sequence[Row]) -> list[str]:
    """Return one line per tuned row with the settings chosen on validation."""
    return [
        f"`{row.name}` " + ", ".join(f"{k} {v:.3g}" for k, v in row.record.settings.items())
        for row in rows
        if row.record.settings
    ]


def _markdown_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    best = [column.best(rows) for column in columns]
    # Some Markdown renderers turn `@0` into a link to a user.
    lines = [[column.header.removeprefix("@") for column in columns]]
    lines.append(["---" if _is_text(column) else "---:" for column in columns])
    for kind, members in groupby(rows, key=lambda row: row.record.kind):
        lines.append([f"*{GROUPS[kind]}*", *[""] * (len(columns) - 1)])
        for row in members:
            texts = [column.text(row).replace("|", "\\|") for column in columns]
            lines.append([f"**{t}**" if row.name in b else t for t, b in zip(texts, best, strict=True)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reported_cells(study: ReportData, row: Reported) -> list[str]:
    """Return the cells of a reported result: method, modalities, features, mAP at each tIoU, average."""
    maps = [notes.number(row.at.get(metric)) for metric in (*study.metrics, "map_avg")]
    return [row.method, row.modalities, row.features, *maps]


def reported_headers(study: ReportData) -> list[str]:
    """Return the headers of `reported_cells`."""
    return [
        "Method",
        "Modalities",
        "Features",
        *(metric.removeprefix("map_").removesuffix("0") for metric in study.metrics),
        "Avg",
    ]


def _reported_markdown(study: ReportData, rows: Sequence[Reported]) -> str:
    headers = [*reported_headers(study), "Source"]
    lines = [headers, ["---"] * 3 + ["---:"] * (len(headers) - 4) + ["---"]]
    for row in rows:
        setting = f", {row.setting}" if row.setting else ""
        lines.append([*reported_cells(study, row), f"[{row.source}]({row.url}){setting}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_text(column: Column) -> bool:
    return column.header in ("Row", "Model", "Modalities", "Teachers")


def latex(study: ReportData) -> str:
    """Return the tables for LaTeX with booktabs, with provenance and notes as comments."""
    comments = "\n".join(f"% {line}" for line in [*notes.provenance(study), *notes.notes(study)])
    tables = [_latex_table(columns, study.rows) for columns in (accuracy(study), costs(study)) if columns]
    if literature := reported(study):
        tables.append(_reported_latex(study, literature))
    return f"% requires \\usepackage{{booktabs,graphicx}}\n{comments}\n" + "\n".join(tables)


def _reported_latex(study: ReportData, rows: Sequence[Reported]) -> str:
    headers = reported_headers(study)
    lines = [f"% {CAUTION}", *(f"% {row.method}, {row.modalities}: {row.source}, {row.url}" for row in rows)]
    lines += [RESIZE, rf"\begin{{tabular}}{{lll{'r' * (len(headers) - 3)}}}", r"\toprule"]
    lines += [" & ".join(map(escape, headers)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(escape, reported_cells(study, row))) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", ""])


def _latex_header(column: Column) -> str:
    r"""Return a header for LaTeX with its unit on a second line; `\\{}` since `\\[` would start an option."""
    name, bracket, unit = column.header.partition(" (" if " (" in column.header else " [")
    if not bracket:
        return escape(name)
    return rf"\shortstack[r]{{{escape(name)}\\{{}}{escape(bracket.strip() + unit)}}}"


def _latex_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    best = [column.best(rows) for column in columns]
    alignment = "".join("l" if _is_text(column) else "r" for column in columns)
    lines = [RESIZE, rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines.append(" & ".join(map(_latex_header, columns)) + r" \\")
    for _, members in groupby(rows, key=lambda row: row.record.kind):
        lines.append(r"\midrule")
        for row in members:
            texts = [escape(column.text(row)) for column in columns]
            cells = [rf"\textbf{{{t}}}" if row.name in b else t for t, b in zip(texts, best, strict=True)]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", ""])


def escape(text: str) -> str:
    """Escape text for LaTeX."""
    return "".join(TEX.get(character, character) for character in text)


def csv(study: ReportData) -> str:
    """Return the unrounded numbers as CSV with one line per row."""
    table = pd.DataFrame([line(study, row) for row in study.rows])
    return str(table.to_csv(index=False, lineterminator="\n"))


def line(study: ReportData, row: Row) -> dict[str, Any]:
    """Return the unrounded numbers of a row by column; None for missing numbers."""
    values: dict[str, Any] = {
        "study": study.record.spec.name,
        "dataset": study.record.dataset,
        "row": row.name,
        "kind": row.record.kind,
        "model": row.record.model,
        "modalities": row.record.modalities,
        "teachers": " + ".join(row.record.teachers.values()),
        "settings": json.dumps(row.record.settings),
        "seeds": len(row.results),
        "seeds_expected": row.expected,
        "command": study.record.command,
        "commit": " ".join(notes.commits(study)),
        "fingerprint": study.record.fingerprint,
        "date": study.record.finished,
    }
    for metric in (*study.metrics, "map_avg", *study.additional_averages):
        values |= {f"{metric}_mean": row.mean(metric), f"{metric}_sd": row.sd(metric)}
    for base in BASELINES:
        d = row.differences.get(base)
        values |= {
            f"delta_{base}": d.estimate if d else None,
            f"delta_{base}_low": d.low if d else None,
            f"delta_{base}_high": d.high if d else None,
            f"delta_{base}_clear": d.excludes_zero if d else None,
            f"delta_{base}_seeds": d.seeds if d else None,
        }
    cost = row.cost
    values |= {
        "params": cost.params if cost else None,
        "gmacs": cost.gmacs if cost else None,
        "latency_ms": cost.latency_ms.get("median") if cost else None,
        "latency_ms_iqr": cost.latency_ms.get("iqr") if cost else None,
        "peak_memory_mb": cost.peak_memory_mb if cost else None,
        "minute": row.minute,
    }
    values |= {f"minute_{step}": cost.minute.get(step) if cost else None for step in steps(study)}
    return values | {f"minute_with_{a}": row.minute_with(a) for a in alternatives(study)}
