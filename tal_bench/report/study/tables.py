"""The table of a study as Markdown, LaTeX (booktabs) and CSV; one for accuracy, one for cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal

import pandas as pd

from tal_bench.report.study import notes as words
from tal_bench.report.study.collect import BASELINES, Row, Study
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
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""A table as wide as it is, or as the text where that is narrower."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: with an arrow for the better direction.
        text: of a row's cell.
        value: for finding the best, or none where that has no meaning.
        better: which end is best.
    """

    header: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | None] | None = None
    better: Literal["max", "min"] = "max"

    def best(self, rows: Sequence[Row]) -> set[str]:
        """Names of the student rows whose shown value is best, empty when all show the same."""
        if self.value is None:
            return set()
        found = {r.name: v for r in rows if r.record.kind == "student" and (v := self.value(r)) is not None}
        shown = {r.name: self.text(r) for r in rows if r.name in found}
        if len(set(shown.values())) < 2:
            return set()
        top = (max if self.better == "max" else min)(found.values())
        winner = next(name for name, value in found.items() if value == top)
        return {winner} if self.header.startswith("Avg") else {n for n in shown if shown[n] == shown[winner]}


def accuracy(study: Study) -> list[Column]:
    """Columns of the accuracy table."""

    def at(metric: str) -> Column:
        return Column(
            f"@{metric.removeprefix('map_').removesuffix('0')} ↑",
            lambda row: words.number(row.mean(metric)),
            lambda row: row.mean(metric),
        )

    def over(metric: str) -> Column:
        ends = metric.removeprefix("map_").replace("-", ":")
        return Column(
            f"Avg @{ends} ↑",
            lambda row: words.spread(row.mean(metric), row.sd(metric)),
            lambda row: row.mean(metric),
        )

    def against(base: str) -> Column:
        return Column(f"Δ {base} [95 % CI]", lambda row: words.interval(row.differences.get(base)))

    present = [base for base in BASELINES if any(base in row.differences for row in study.rows)]
    average = Column("Avg ↑", lambda row: words.spread(row.mean(), row.sd()), lambda row: row.mean())
    return [*_names(), *map(at, study.metrics), average, *map(over, study.beside), *map(against, present)]


def _names() -> list[Column]:
    return [
        Column("Row", lambda row: row.name + (f" ({row.seeds_text})" if row.seeds_text else "")),
        Column("Modalities", lambda row: row.record.modalities),
        Column("Teachers", lambda row: " + ".join(row.record.teachers.values()) or words.NOTHING),
    ]


def costs(study: Study) -> list[Column]:
    """Columns of the cost table; none when nothing was measured."""
    if not any(row.cost for row in study.rows):
        return []

    def measured(header: str, read: Callable[[Any], float], digits: int) -> Column:
        def value(row: Row) -> float | None:
            return read(row.cost) if row.cost else None

        return Column(header, lambda row: words.number(value(row), digits), value, "min")

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


def _minute_columns(study: Study) -> list[Column]:
    """Seconds per minute of video: each step, the total, and the total with other extractors."""

    def step_column(step: str) -> Column:
        return Column(
            f"{step.capitalize()} (s/min)",
            lambda row: words.seconds(row.cost.minute.get(step) if row.cost else None),
        )

    def total(header: str, value: Callable[[Row], float | None]) -> Column:
        return Column(header, lambda row: words.seconds(value(row)), value, "min")

    present = steps(study)
    if not present:
        return []
    others = [
        total(f"Total with {words.extractor(a)} (s/min) ↓", partial(Row.minute_with, alternative=a))
        for a in alternatives(study)
    ]
    return [*map(step_column, present), total("Total (s/min) ↓", lambda row: row.minute), *others]


def steps(study: Study) -> list[str]:
    """Measured steps of a minute of video, in the order in which they happen."""
    found = {step for row in study.rows if row.cost for step in row.cost.minute}
    return [s for s in STEPS if s in found] + sorted(found - set(STEPS))


def alternatives(study: Study) -> list[str]:
    """Other privileged extractors that were measured."""
    return sorted({a for row in study.rows if row.cost for a in row.cost.minute_alternatives})


def markdown(study: Study) -> str:
    """The report as Markdown: accuracy, what the intervals say, cost, provenance."""
    record = study.record
    parts = [f"# {record.spec.name}", record.spec.description]
    if not study.complete:
        parts.append("**Incomplete: " + ("runs are missing.**" if record.finished else "unfinished study.**"))
    parts.append("## Accuracy: mAP in percent at each tIoU, and their average")
    parts.append(_markdown_table(accuracy(study), study.rows))
    parts.append("\n".join(f"- {line}" for line in words.findings(study)))
    if columns := costs(study):
        parts += ["## Cost of the model and of one minute of video", _markdown_table(columns, study.rows)]
    if found := reported(study):
        parts += ["## Reported in the literature", CAUTION, _reported_markdown(study, found)]
    chosen = tuned(study.rows)
    settings = [f"Settings chosen on validation: {'; '.join(chosen)}"] if chosen else []
    lines = [*words.provenance(study), *settings, *words.notes(study)]
    parts += ["## Provenance", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(filter(None, parts)) + "\n"


def tuned(rows: Sequence[Row]) -> list[str]:
    """Settings chosen on validation, a line per row that has some."""
    return [
        f"`{row.name}` " + ", ".join(f"{k} {v:.3g}" for k, v in row.record.settings.items())
        for row in rows
        if row.record.settings
    ]


def _markdown_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    best = [column.best(rows) for column in columns]
    # Where Markdown is shown, `@0` may become a link to a person of that name.
    lines = [[column.header.removeprefix("@") for column in columns]]
    lines.append(["---" if _is_text(column) else "---:" for column in columns])
    for kind, members in groupby(rows, key=lambda row: row.record.kind):
        lines.append([f"*{GROUPS[kind]}*", *[""] * (len(columns) - 1)])
        for row in members:
            texts = [column.text(row).replace("|", "\\|") for column in columns]
            lines.append([f"**{t}**" if row.name in b else t for t, b in zip(texts, best, strict=True)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def reported_cells(study: Study, row: Reported) -> list[str]:
    """Cells of a reported row: method, modalities, features, mAP at the study's tIoU, average."""
    maps = [words.number(row.at.get(metric)) for metric in (*study.metrics, "map_avg")]
    return [row.method, row.modalities, row.features, *maps]


def reported_headers(study: Study) -> list[str]:
    """Headers of `reported_cells`."""
    return [
        "Method",
        "Modalities",
        "Features",
        *(metric.removeprefix("map_").removesuffix("0") for metric in study.metrics),
        "Avg",
    ]


def _reported_markdown(study: Study, rows: Sequence[Reported]) -> str:
    headers = [*reported_headers(study), "Source"]
    lines = [headers, ["---"] * 3 + ["---:"] * (len(headers) - 4) + ["---"]]
    for row in rows:
        setting = f", {row.setting}" if row.setting else ""
        lines.append([*reported_cells(study, row), f"[{row.source}]({row.url}){setting}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_text(column: Column) -> bool:
    return column.header in ("Row", "Model", "Modalities", "Teachers")


def latex(study: Study) -> str:
    """Both tables for booktabs, with provenance as comments."""
    comments = "\n".join(f"% {line}" for line in [*words.provenance(study), *words.notes(study)])
    tables = [_latex_table(columns, study.rows) for columns in (accuracy(study), costs(study)) if columns]
    if found := reported(study):
        tables.append(_reported_latex(study, found))
    return f"% needs \\usepackage{{booktabs,graphicx}}\n{comments}\n" + "\n".join(tables)


def _reported_latex(study: Study, rows: Sequence[Reported]) -> str:
    headers = reported_headers(study)
    lines = [f"% {CAUTION}", *(f"% {row.method}, {row.modalities}: {row.source}, {row.url}" for row in rows)]
    lines += [FITTED, rf"\begin{{tabular}}{{lll{'r' * (len(headers) - 3)}}}", r"\toprule"]
    lines += [" & ".join(map(escape, headers)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(escape, reported_cells(study, row))) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", ""])


def _stacked(column: Column) -> str:
    """A header for LaTeX, its unit on a line of its own; `[` behind a line break would be its argument."""
    name, bracket, unit = column.header.partition(" (" if " (" in column.header else " [")
    if not bracket:
        return escape(name)
    return rf"\shortstack[r]{{{escape(name)}\\{{}}{escape(bracket.strip() + unit)}}}"


def _latex_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    best = [column.best(rows) for column in columns]
    sides = "".join("l" if _is_text(column) else "r" for column in columns)
    lines = [FITTED, rf"\begin{{tabular}}{{{sides}}}", r"\toprule"]
    lines.append(" & ".join(map(_stacked, columns)) + r" \\")
    for _, members in groupby(rows, key=lambda row: row.record.kind):
        lines.append(r"\midrule")
        for row in members:
            texts = [escape(column.text(row)) for column in columns]
            cells = [rf"\textbf{{{t}}}" if row.name in b else t for t, b in zip(texts, best, strict=True)]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", ""])


def escape(text: str) -> str:
    """Text for LaTeX."""
    return "".join(TEX.get(character, character) for character in text)


def csv(study: Study) -> str:
    """Raw numbers, one line per row of the table."""
    table = pd.DataFrame([line(study, row) for row in study.rows])
    return str(table.to_csv(index=False, lineterminator="\n"))


def line(study: Study, row: Row) -> dict[str, Any]:
    """Raw numbers of a row, in named columns; none where there is no number."""
    found: dict[str, Any] = {
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
        "commit": " ".join(words.commits(study)),
        "fingerprint": study.record.fingerprint,
        "date": study.record.finished,
    }
    for metric in (*study.metrics, "map_avg", *study.beside):
        found |= {f"{metric}_mean": row.mean(metric), f"{metric}_sd": row.sd(metric)}
    for base in BASELINES:
        d = row.differences.get(base)
        found |= {
            f"delta_{base}": d.estimate if d else None,
            f"delta_{base}_low": d.low if d else None,
            f"delta_{base}_high": d.high if d else None,
            f"delta_{base}_clear": d.excludes_zero if d else None,
            f"delta_{base}_seeds": d.seeds if d else None,
        }
    cost = row.cost
    found |= {
        "params": cost.params if cost else None,
        "gmacs": cost.gmacs if cost else None,
        "latency_ms": cost.latency_ms.get("median") if cost else None,
        "latency_ms_iqr": cost.latency_ms.get("iqr") if cost else None,
        "peak_memory_mb": cost.peak_memory_mb if cost else None,
        "minute": row.minute,
    }
    found |= {f"minute_{step}": cost.minute.get(step) if cost else None for step in steps(study)}
    return found | {f"minute_with_{a}": row.minute_with(a) for a in alternatives(study)}
