"""Columns of a study's tables, from which terminal, Markdown, LaTeX, CSV, page and `summary.json` derive.

A column is one entry of `COLUMNS`, in the order of the tables. A plugin appends its own:

    COLUMNS.append(Column("energy_j", "Energy", of_cost(read_energy), "(J)", "min", tables=("costs",)))
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from tal_bench.report.common.tables import BEST, DASH, Cell, Header
from tal_bench.report.study import notes
from tal_bench.report.study.collect import BASELINES, ReportData, Row
from tal_bench.results.dataframe import STEPS
from tal_bench.results.records import CostRecord

TableName = Literal["accuracy", "costs"]
TABLES: tuple[TableName, ...] = ("accuracy", "costs")
Value = float | str | None
WIDTH_ALL, WIDTH_MODALITIES, WIDTH_SIZES = 140, 112, 96
"""Smallest terminal widths at which all tIoU and totals, the modalities, and the model sizes are shown."""
ARROWS = {"max": "↑", "min": "↓", None: ""}


@dataclass(frozen=True)
class Column:
    """A column of the tables of a study.

    Attributes:
        key: Name in `table.csv` and `summary.json`.
        header: Header without unit and direction.
        value: Function that returns the unrounded value of a row; None if it is missing.
        unit: Unit in brackets, such as `(ms)`, on a line of its own in LaTeX.
        better: Whether larger or smaller values are better; None if the column has no best.
        short: Header in the terminal; `header` with its direction by default.
        digits: Digits after the point; None for about three significant digits.
        scale: Factor between the value and what the tables show.
        tables: Tables of the column in Markdown, LaTeX and page; none for columns of the CSV alone.
        terminal: Smallest width of a terminal that shows the column; None to leave it out.
        cell: Function that returns the cell of a row; by default the number, or the text.
        fields: Function that returns the values of a row in the CSV, if they are not `value` under `key`.
        text: Whether values are texts. On the page they stand below the name of the row.
        optional: Whether tables leave the column out if no row has a value.
        one_best: Whether only the best value is marked, not those that look equal.
    """

    key: str
    header: str
    value: Callable[[Row], Value]
    unit: str = ""
    better: Literal["max", "min"] | None = None
    short: str = ""
    digits: int | None = 1
    scale: float = 1.0
    tables: tuple[TableName, ...] = ()
    terminal: int | None = None
    cell: Callable[[Row], Cell] | None = None
    fields: Callable[[Row], dict[str, Any]] | None = None
    text: bool = False
    optional: bool = True
    one_best: bool = False

    @property
    def heading(self) -> Header:
        """Header with unit and arrow."""
        parts = [part for part in (self.header, self.unit, ARROWS[self.better]) if part]
        split = 1 if self.unit else len(parts)
        return Header(" ".join(parts[:split]), " ".join(parts[split:]), self.text)

    @property
    def terminal_heading(self) -> str:
        """Header in the terminal."""
        return self.short or f"{self.header} {ARROWS[self.better]}".rstrip()

    def show(self, row: Row) -> Cell:
        """Return the cell of a row."""
        if self.cell is not None:
            return self.cell(row)
        value = self.value(row)
        if isinstance(value, str):
            return Cell(value or DASH)
        if self.digits is None:
            return Cell(notes.seconds(value))
        return Cell(notes.number(None if value is None else self.scale * value, self.digits))

    def best(self, study: ReportData) -> set[str]:
        """Return the names of the student rows with the best displayed value; empty if all are equal."""
        values = {row.name: value for row in study.students() if (value := self.value(row)) is not None}
        texts = {row.name: self.show(row).main for row in study.students() if row.name in values}
        if self.better is None or len(set(texts.values())) < 2:
            return set()
        winner = (max if self.better == "max" else min)(values, key=lambda name: values[name])
        return {winner} if self.one_best else {name for name in texts if texts[name] == texts[winner]}


Family = Callable[[ReportData], list[Column]]
"""Columns that depend on the study: one per tIoU threshold, per baseline, per step."""


def columns(study: ReportData) -> list[Column]:
    """Return all columns of a study."""
    return [c for entry in COLUMNS for c in ([entry] if isinstance(entry, Column) else entry(study))]


def shown(study: ReportData, table: TableName) -> list[Column]:
    """Return the columns of a table; empty if nothing was measured."""
    found = [
        c
        for c in columns(study)
        if table in c.tables and (not c.optional or any(c.value(row) is not None for row in study.rows))
    ]
    return found if any(not column.text for column in found) else []


def line(study: ReportData, row: Row) -> dict[str, Any]:
    """Return the unrounded numbers of a row by name in the CSV; None for missing numbers."""
    values: dict[str, Any] = {}
    for c in columns(study):
        values |= c.fields(row) if c.fields else {c.key: c.value(row)}
    return values


def cells(study: ReportData, shown_columns: list[Column]) -> dict[str, list[Cell]]:
    """Return the cells of each row by its name, with the best values marked."""
    best = [column.best(study) for column in shown_columns]
    return {
        row.name: [
            replace(cell, classes=BEST) if row.name in names else cell
            for cell, names in zip((c.show(row) for c in shown_columns), best, strict=True)
        ]
        for row in study.rows
    }


def of_cost(read: Callable[[CostRecord], float | None]) -> Callable[[Row], float | None]:
    """Return the function that reads a value from the cost of a row, if it was measured."""
    return lambda row: read(row.cost) if row.cost else None


def level(metric: str) -> str:
    """Return the tIoU threshold of a metric for headers: `0.5` for `map_0.50`."""
    return metric.removeprefix("map_").removesuffix("0")


def steps(study: ReportData) -> list[str]:
    """Return the measured steps of processing a minute of video, in processing order."""
    measured = {step for row in study.rows if row.cost for step in row.cost.minute}
    return [s for s in STEPS if s in measured] + sorted(measured - set(STEPS))


def alternatives(study: ReportData) -> list[str]:
    """Return the measured alternative extractors of privileged modalities."""
    return sorted({a for row in study.rows if row.cost for a in row.cost.minute_alternatives})


def _study_columns(study: ReportData) -> list[Column]:
    record = study.record
    return [
        Column("study", "Study", lambda row: record.spec.name),
        Column("dataset", "Dataset", lambda row: record.dataset),
    ]


def _provenance(study: ReportData) -> list[Column]:
    record = study.record
    return [
        Column("command", "Command", lambda row: record.command),
        Column("commit", "Commit", lambda row: " ".join(notes.commits(study))),
        Column("fingerprint", "Fingerprint", lambda row: record.fingerprint),
        Column("date", "Date", lambda row: record.finished),
    ]


def _accuracy(study: ReportData) -> list[Column]:
    """Return columns of mAP at each threshold, of averages, and of differences to each baseline."""

    def metric(name: str, header: str, terminal: int | None, *, mean: bool = False) -> Column:
        return Column(
            name,
            header,
            partial(Row.mean, metric=name),
            better="max",
            short="" if mean else header.replace("@0.", "@."),
            tables=("accuracy",),
            terminal=terminal,
            cell=(lambda row: Cell(notes.spread(row.mean(name), row.sd(name)))) if mean else None,
            fields=lambda row: {f"{name}_mean": row.mean(name), f"{name}_sd": row.sd(name)},
            optional=False,
            one_best=mean,
        )

    count = len(study.metrics)
    few = (0, count // 2, count - 1) if count > 3 else range(count)
    compared = [base for base in BASELINES if any(base in row.differences for row in study.rows)]
    main = [*study.additional_averages, *compared][:1]  # what the terminal shows beside the average
    return [
        *(metric(m, f"@{level(m)}", 0 if k in few else WIDTH_ALL) for k, m in enumerate(study.metrics)),
        metric("map_avg", "Avg", 0, mean=True),
        *(
            metric(m, f"Avg @{m.removeprefix('map_').replace('-', ':')}", 0 if m in main else None, mean=True)
            for m in study.additional_averages
        ),
        *(_difference(base, 0 if base in main else None) for base in BASELINES),
    ]


def _difference(base: str, terminal: int | None) -> Column:
    def estimate(row: Row) -> float | None:
        return row.differences[base].estimate if base in row.differences else None

    def cell(row: Row) -> Cell:
        d = row.differences.get(base)
        if d is None:
            return Cell(DASH)
        return Cell(notes.estimate(d), notes.ends(d), "" if d.excludes_zero else "unclear")

    def fields(row: Row) -> dict[str, Any]:
        d = row.differences.get(base)
        return {
            f"delta_{base}": d.estimate if d else None,
            f"delta_{base}_low": d.low if d else None,
            f"delta_{base}_high": d.high if d else None,
            f"delta_{base}_clear": d.excludes_zero if d else None,
            f"delta_{base}_seeds": d.seeds if d else None,
        }

    return Column(
        f"delta_{base}",
        f"Δ {base}",
        estimate,
        unit="[95 % CI]",
        tables=("accuracy",),
        terminal=terminal,
        cell=cell,
        fields=fields,
    )


def _minute(study: ReportData) -> list[Column]:
    """Return columns of seconds per minute of video: steps, total, and total with other extractors."""
    present = steps(study)

    def step(name: str) -> Callable[[Row], float | None]:
        return of_cost(lambda cost: cost.minute.get(name))

    def seconds(key: str, header: str, value: Callable[[Row], float | None], **rest: Any) -> Column:
        return Column(key, header, value, "(s/min)", digits=None, tables=("costs",), **rest)

    def total(row: Row) -> dict[str, Any]:
        return {"minute": row.minute} | {f"minute_{name}": step(name)(row) for name in present}

    return [
        *(seconds(f"minute_{s}", s.capitalize(), step(s), fields=lambda row: {}) for s in present),
        seconds(
            "minute", "Total", lambda row: row.minute, better="min", short="s/min", terminal=0, fields=total
        ),
        *(
            seconds(
                f"minute_with_{a}",
                f"Total with {notes.extractor(a)}",
                partial(Row.minute_with, alternative=a),
                better="min",
                short=f"with {notes.extractor(a)}",
                terminal=WIDTH_ALL,
            )
            for a in alternatives(study)
        ),
    ]


COLUMNS: list[Column | Family] = [
    _study_columns,
    Column("row", "Row", lambda row: row.name),
    Column("kind", "Kind", lambda row: row.record.kind),
    Column("model", "Model", lambda row: row.record.model, tables=("costs",), text=True),
    Column(
        "modalities",
        "Modalities",
        lambda row: row.record.modalities,
        short="Reads",
        tables=("accuracy", "costs"),
        terminal=WIDTH_MODALITIES,
        text=True,
    ),
    Column(
        "teachers",
        "Teachers",
        lambda row: " + ".join(row.record.teachers.values()),
        tables=("accuracy",),
        text=True,
    ),
    Column("settings", "Settings", lambda row: json.dumps(row.record.settings)),
    Column("seeds", "Seeds", lambda row: len(row.results)),
    Column("seeds_expected", "Seeds of a complete row", lambda row: row.expected),
    _provenance,
    _accuracy,
    Column(
        "params",
        "Params",
        of_cost(lambda cost: cost.params),
        "(M)",
        "min",
        "M par.",
        digits=2,
        scale=1e-6,
        tables=("costs",),
        terminal=WIDTH_SIZES,
    ),
    Column(
        "gmacs",
        "GMACs",
        of_cost(lambda cost: cost.gmacs),
        "",
        "min",
        "GMACs",
        digits=2,
        tables=("costs",),
        terminal=WIDTH_SIZES,
    ),
    Column(
        "latency_ms",
        "Latency, median",
        of_cost(lambda cost: cost.latency_ms.get("median")),
        "(ms)",
        "min",
        "ms",
        tables=("costs",),
        terminal=WIDTH_SIZES,
    ),
    Column("latency_ms_iqr", "Latency, IQR", of_cost(lambda cost: cost.latency_ms.get("iqr"))),
    Column(
        "peak_memory_mb",
        "Peak memory",
        of_cost(lambda cost: cost.peak_memory_mb),
        "(MB)",
        "min",
        digits=0,
        tables=("costs",),
    ),
    _minute,
    Column(
        "training_gmacs",
        "Training",
        lambda row: row.record.training_gmacs,
        "(GMACs/video)",
        "min",
        digits=0,
        tables=("costs",),
    ),
]
"""Columns and families of columns, in the order of the tables and of the CSV."""
