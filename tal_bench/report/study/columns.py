"""Columns of a study's tables, from which terminal, Markdown, LaTeX, CSV, page and `summary.json` derive.

A column of costs is one entry of `COST_COLUMNS` in `results/columns.py`, which also reaches `load_runs` and
MLflow. Any other column is one entry of `COLUMNS`, in the order of the tables. A plugin appends its own:

    COLUMNS.append(Column("seeds_missing", "Missing", lambda row: row.expected - len(row.results)))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from tal_bench.report.common import formats
from tal_bench.report.common.tables import BEST, DASH, Cell, Header
from tal_bench.report.study import notes
from tal_bench.report.study.collect import BASELINES, ReportData, Row
from tal_bench.results.columns import (
    COST_COLUMNS,
    STEPS,
    TRAINING_COLUMNS,
    WIDTH_ALL,
    WIDTH_MODALITIES,
    BaseColumn,
    CostColumn,
    CostFamily,
    TableName,
    TrainingColumn,
    Value,
)

ARROWS = {"max": "↑", "min": "↓", None: ""}


@dataclass(frozen=True)
class Column(BaseColumn[Row]):
    """A column of the tables of a study.

    Attributes:
        cell: Function that returns the cell of a row; by default the number, or the text.
        fields: Function that returns the values of a row in the CSV, if they are not `value` under `key`.
        text: Whether values are texts. On the page they stand below the name of the row.
        optional: Whether tables leave the column out if no row has a value.
        one_best: Whether only the best value is marked, not those that look equal.
        pinned: Whether the page keeps the column in view where the table is wider than the screen.
    """

    cell: Callable[[Row], Cell] | None = None
    fields: Callable[[Row], dict[str, Any]] | None = None
    text: bool = False
    optional: bool = True
    one_best: bool = False
    pinned: bool = False

    @property
    def heading(self) -> Header:
        """Header with unit and arrow."""
        parts = [part for part in (self.header, self.unit, ARROWS[self.better]) if part]
        split = 1 if self.unit else len(parts)
        return Header(" ".join(parts[:split]), " ".join(parts[split:]), self.text, self.pinned)

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
            return Cell(formats.seconds(value))
        return Cell(formats.number(None if value is None else value / self.unit_size, self.digits))

    def best(self, study: ReportData) -> set[str]:
        """Return the names of the student rows with the best displayed value; empty if all are equal."""
        values = {row.name: value for row in study.students() if (value := self.value(row)) is not None}
        texts = {row.name: self.show(row).main for row in study.students() if row.name in values}
        if self.better is None or len(set(texts.values())) < 2:
            return set()
        winner = (max if self.better == "max" else min)(values, key=lambda name: values[name])
        return {winner} if self.one_best else {name for name in texts if texts[name] == texts[winner]}


@dataclass(frozen=True)
class ColumnFamily:
    """Columns that depend on the study, such as one per tIoU threshold.

    Attributes:
        keys: Keys in the list of columns, with what depends on the study in brackets: `map_<tIoU>_mean`.
        meaning: What their values are.
        columns: Function that returns the columns of a study.
    """

    keys: str
    meaning: str
    columns: Callable[[ReportData], list[Column]]


def columns(study: ReportData) -> list[Column]:
    """Return all columns of a study."""
    return [c for entry in COLUMNS for c in ([entry] if isinstance(entry, Column) else entry.columns(study))]


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


def _of_study(key: str, header: str, meaning: str, read: Callable[[ReportData], Value]) -> ColumnFamily:
    """Return the column of a value that all rows of a study share; it is in the CSV alone."""
    return ColumnFamily(key, meaning, lambda study: [Column(key, header, lambda row: read(study))])


def _shown_beside_the_average(study: ReportData) -> list[str]:
    """Return the additional average or the baseline that the terminal shows."""
    compared = [base for base in BASELINES if any(base in row.differences for row in study.rows)]
    return [*study.additional_averages, *compared][:1]


def _accuracy(study: ReportData) -> list[Column]:
    """Return columns of mAP at each threshold and of averages."""

    def metric(name: str, header: str, terminal: int | None, *, mean: bool = False) -> Column:
        return Column(
            name,
            header,
            partial(Row.mean, metric=name),
            better="max",
            short="" if mean else header.replace("@0.", "@."),
            tables=("accuracy",),
            terminal=terminal,
            cell=(lambda row: Cell(formats.spread(row.mean(name), row.sd(name)))) if mean else None,
            fields=lambda row: {f"{name}_mean": row.mean(name), f"{name}_sd": row.sd(name)},
            optional=False,
            one_best=mean,
            pinned=name == "map_avg",
        )

    count = len(study.metrics)
    few = (0, count // 2, count - 1) if count > 3 else range(count)
    main = _shown_beside_the_average(study)
    return [
        *(metric(m, f"@{level(m)}", 0 if k in few else WIDTH_ALL) for k, m in enumerate(study.metrics)),
        metric("map_avg", "Avg", 0, mean=True),
        *(
            metric(m, f"Avg @{m.removeprefix('map_').replace('-', ':')}", 0 if m in main else None, mean=True)
            for m in study.additional_averages
        ),
    ]


def _differences(study: ReportData) -> list[Column]:
    """Return columns of the differences to each baseline."""
    main = _shown_beside_the_average(study)
    return [_difference(base, 0 if base in main else None) for base in BASELINES]


def _difference(base: str, terminal: int | None) -> Column:
    def estimate(row: Row) -> float | None:
        return row.differences[base].estimate if base in row.differences else None

    def cell(row: Row) -> Cell:
        return formats.difference_cell(row.differences.get(base))

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


def _costs(study: ReportData) -> list[Column]:
    """Return the columns of `COST_COLUMNS`; tables have the parts of a sum before it, the CSV after it."""
    costs = [row.cost for row in study.rows if row.cost]
    found: list[Column] = []
    for entry in COST_COLUMNS:
        if isinstance(entry, CostFamily):
            found += map(as_column, entry.columns(costs))
            continue
        parts = entry.parts.columns(costs) if entry.parts else []
        found += [replace(as_column(part), fields=lambda row: {}) for part in parts]
        data = [as_column(column) for column in (entry, *parts)]
        found.append(replace(data[0], fields=partial(_values, columns=data)))
    return found


def as_column(column: CostColumn) -> Column:
    """Return a column of costs as a column of rows."""
    declared = {field.name: getattr(column, field.name) for field in fields(BaseColumn)}
    return Column(**declared | {"value": lambda row: column.value(row.cost) if row.cost else None})


def as_training_column(column: TrainingColumn) -> Column:
    """Return a column of the costs of a training step as a column of rows."""
    declared = {field.name: getattr(column, field.name) for field in fields(BaseColumn)}
    return Column(**declared | {"value": lambda row: column.value(row.training) if row.training else None})


def _values(row: Row, columns: Sequence[Column]) -> dict[str, Value]:
    return {column.key: column.value(row) for column in columns}


COLUMNS: list[Column | ColumnFamily] = [
    _of_study("study", "Study", "name of the study", lambda study: study.record.spec.name),
    _of_study("dataset", "Dataset", "name of the dataset", lambda study: study.record.dataset),
    Column("row", "Row", lambda row: row.name, meaning="name of the row"),
    Column("kind", "Kind", lambda row: row.record.kind, meaning="`teacher`, `reference` or `student`"),
    Column(
        "model",
        "Model",
        lambda row: row.record.model,
        tables=("costs",),
        meaning="registered name of the row's model",
        text=True,
    ),
    Column(
        "modalities",
        "Modalities",
        lambda row: row.record.modalities,
        short="Reads",
        tables=("accuracy", "costs"),
        terminal=WIDTH_MODALITIES,
        meaning="modalities that the model reads at inference",
        text=True,
    ),
    Column(
        "teachers",
        "Teachers",
        lambda row: " + ".join(row.record.teachers.values()),
        tables=("accuracy", "training"),
        meaning="registered models of the teachers",
        text=True,
    ),
    Column(
        "settings",
        "Settings",
        lambda row: json.dumps(row.record.settings),
        meaning="settings chosen on validation, as JSON",
    ),
    Column("seeds", "Seeds", lambda row: len(row.results), meaning="number of finished final runs"),
    Column(
        "seeds_expected",
        "Seeds of a complete row",
        lambda row: row.expected,
        meaning="number of final runs of a complete row",
    ),
    _of_study("command", "Command", "command that started the study", lambda study: study.record.command),
    _of_study(
        "commit",
        "Commit",
        "commits with which the runs were trained",
        lambda study: " ".join(notes.commits(study)),
    ),
    _of_study(
        "fingerprint", "Fingerprint", "fingerprint of the data", lambda study: study.record.fingerprint
    ),
    _of_study("date", "Date", "date on which the study ended", lambda study: study.record.finished),
    ColumnFamily(
        "map_<tIoU>_mean, map_<tIoU>_sd, map_avg_mean, map_avg_sd",
        "mAP in percent at a tIoU and on average, over a second grid (`map_0.50-0.95_mean`) if the dataset "
        "has one: mean and standard deviation over seeds",
        _accuracy,
    ),
    ColumnFamily(
        "delta_<baseline>, …_low, …_high, …_clear, …_seeds",
        "paired difference of average mAP to `none` or `self` in points, its 95 % interval, whether this "
        "excludes 0, number of shared seeds",
        _differences,
    ),
    ColumnFamily("", "", _costs),
    ColumnFamily("", "", lambda study: [as_training_column(column) for column in TRAINING_COLUMNS]),
    Column(
        "training_gmacs",
        "Whole training",
        lambda row: row.record.training_gmacs,
        "(GMACs/video)",
        digits=0,
        meaning="multiply-accumulates of a final training per training video, teachers included, in 10^9",
        tables=("training",),
    ),
]
"""Columns and families of columns, in the order of the tables and of the CSV."""
