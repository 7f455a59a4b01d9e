"""Columns of costs, each declared once.

The tables of a report (terminal, Markdown, LaTeX, CSV, page), `load_runs`, the metrics of MLflow and the list
of columns in the documentation derive from `COST_COLUMNS` and, for what a training step costs, from
`TRAINING_COLUMNS`. A plugin appends its own entry:

    COST_COLUMNS.append(CostColumn("energy_j", "Energy", read_energy, "(J)", "min", tables=("costs",)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from tal_bench.results.records import CostRecord, TrainingCost

TableName = Literal["accuracy", "costs", "training"]
TABLES: tuple[TableName, ...] = ("accuracy", "costs", "training")
Value = float | str | None
WIDTH_ALL, WIDTH_MODALITIES, WIDTH_SIZES = 140, 112, 96
"""Smallest terminal widths at which all tIoU and totals, the modalities, and the model sizes are shown."""
STEPS = ("decode", "flow", "backbone", "detector")
"""Steps of processing a minute of video, in processing order."""
METRICS = "cost/"
"""Start of the names of costs in MLflow."""
EXTRACTORS = {"dis": "DIS", "tvl1": "TV-L1", "farneback": "Farneback"}
"""Display names of extractors."""
LAUNCHES = {"graph": "CUDA graph"}
"""Display names of the ways in which a forward pass is launched at once."""
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class BaseColumn(Generic[Subject]):
    """What columns of rows and columns of costs have in common.

    Attributes:
        key: Name in `table.csv`, `summary.json` and tables of pandas.
        header: Header without unit and direction.
        value: Function that returns the unrounded value; None if it is missing.
        unit: Unit in brackets, such as `(ms)`, on a line of its own in LaTeX.
        better: Whether larger or smaller values are better; None if the column has no best.
        short: Header in the terminal; `header` with its direction by default.
        digits: Digits after the point; None for about three significant digits.
        unit_size: How much of the value makes one of the unit that tables show, such as 1e6 for `(M)`.
        tables: Tables of the column in Markdown, LaTeX and page; none for columns of data alone.
        terminal: Smallest width of a terminal that shows the column; None to leave it out.
        meaning: What the value is, for the list of columns; `header` and `unit` by default.
    """

    key: str
    header: str
    value: Callable[[Subject], Value]
    unit: str = ""
    better: Literal["max", "min"] | None = None
    short: str = ""
    digits: int | None = 1
    unit_size: float = 1.0
    tables: tuple[TableName, ...] = ()
    terminal: int | None = None
    meaning: str = ""

    @property
    def described(self) -> str:
        """What the value is."""
        return self.meaning or f"{self.header} {self.unit}".rstrip()


@dataclass(frozen=True)
class MeasuredColumn(BaseColumn[Subject]):
    """A column of measurements; its values are numbers.

    Attributes:
        logged_as: Name in MLflow after `cost/`, with the value in the unit of the tables; `key` by default.
        is_count: Whether the values are counts, which tables of pandas have as integers.
    """

    value: Callable[[Subject], float | None]
    logged_as: str = ""
    is_count: bool = False

    @property
    def metric(self) -> str:
        """Name in MLflow."""
        return METRICS + (self.logged_as or self.key)


@dataclass(frozen=True)
class CostColumn(MeasuredColumn[CostRecord]):
    """A column of the costs of a model.

    Attributes:
        parts: Columns whose sum this one is. Tables show them before the sum, data have them after it.
    """

    parts: CostFamily | None = None


@dataclass(frozen=True)
class TrainingColumn(MeasuredColumn[TrainingCost]):
    """A column of the costs of a training step."""


@dataclass(frozen=True)
class CostFamily:
    """Columns of costs that depend on what was measured, such as one per step.

    Attributes:
        names: Function that returns the names for which a record has a value.
        column: Function that returns the column of a name.
        placeholder: What the list of columns has instead of a name, such as `<step>`.
        first: Names that come first, in this order; others follow in alphabetical order.
    """

    names: Callable[[CostRecord], Iterable[str]]
    column: Callable[[str], CostColumn]
    placeholder: str
    first: Sequence[str] = ()

    @property
    def pattern(self) -> CostColumn:
        """Column of the placeholder."""
        return self.column(self.placeholder)

    def rank(self, name: str) -> tuple[int, str]:
        """Return the position of a name, for sorting."""
        return (list(self.first).index(name) if name in self.first else len(self.first)), name

    def columns(self, costs: Sequence[CostRecord]) -> list[CostColumn]:
        """Return the columns for which a record has a value."""
        names = {name for cost in costs for name in self.names(cost)}
        return [self.column(name) for name in sorted(names, key=self.rank)]


def extractor_name(alternative: str) -> str:
    """Return the display name of an extractor: `TV-L1` for `flow_tvl1`."""
    name = alternative.partition("_")[2] or alternative
    return EXTRACTORS.get(name, name)


def _step(name: str) -> CostColumn:
    return CostColumn(
        f"minute_{name}",
        name.capitalize(),
        lambda cost: cost.minute.get(name),
        "(s/min)",
        digits=None,
        tables=("costs",),
        meaning="seconds of a step per minute of video",
        logged_as=f"minute_{name}_s",
    )


def _with_extractor(name: str) -> CostColumn:
    return CostColumn(
        f"minute_with_{name}",
        f"Total with {extractor_name(name)}",
        lambda cost: cost.minute_with(name),
        "(s/min)",
        "min",
        f"with {extractor_name(name)}",
        digits=None,
        tables=("costs",),
        terminal=WIDTH_ALL,
        meaning="`minute` with another extractor of a privileged modality",
        logged_as=f"minute_with_{name}_s",
    )


def _latency_as(launch: str) -> CostColumn:
    return CostColumn(
        f"latency_ms_{launch}",
        f"Latency as {LAUNCHES.get(launch, launch)}",
        lambda cost: cost.latency_ms.get(launch),
        "(ms)",
        "min",
        tables=("costs",),
        meaning="median latency of the forward pass in milliseconds, launched at once: `graph`, on GPUs",
    )


COST_COLUMNS: list[CostColumn | CostFamily] = [
    CostColumn(
        "params",
        "Params",
        lambda cost: cost.params,
        "(M)",
        "min",
        "M par.",
        digits=2,
        unit_size=1e6,
        tables=("costs",),
        terminal=WIDTH_SIZES,
        meaning="parameters used at inference",
        logged_as="params_M",
        is_count=True,
    ),
    CostColumn(
        "gmacs",
        "GMACs",
        lambda cost: cost.gmacs,
        better="min",
        short="GMACs",
        digits=2,
        tables=("costs",),
        terminal=WIDTH_SIZES,
        meaning="1e9 multiply-accumulates of a forward pass over `max_length` steps",
    ),
    CostColumn(
        "latency_ms",
        "Latency, median",
        lambda cost: cost.latency_ms.get("median"),
        "(ms)",
        "min",
        "ms",
        tables=("costs",),
        terminal=WIDTH_SIZES,
        meaning="median latency of the forward pass in milliseconds",
    ),
    CostColumn(
        "latency_ms_iqr",
        "Latency, IQR",
        lambda cost: cost.latency_ms.get("iqr"),
        "(ms)",
        meaning="interquartile range of the latency in milliseconds",
    ),
    CostFamily(lambda cost: cost.latency_ms.keys() & LAUNCHES.keys(), _latency_as, "<launch>"),
    CostColumn(
        "peak_memory_mb",
        "Peak memory",
        lambda cost: cost.peak_memory_mb,
        "(MB)",
        "min",
        digits=0,
        tables=("costs",),
        meaning="peak memory of the forward pass, weights and activations, in MB",
    ),
    CostColumn(
        "minute",
        "Total",
        lambda cost: cost.minute_total,
        "(s/min)",
        "min",
        "s/min",
        digits=None,
        tables=("costs",),
        terminal=0,
        meaning="seconds per minute of video, from the file to detections",
        logged_as="minute_s",
        parts=CostFamily(lambda cost: cost.minute, _step, "<step>", STEPS),
    ),
    CostFamily(lambda cost: cost.minute_alternatives, _with_extractor, "<extractor>"),
]
"""Columns of costs in the order of tables and data."""
TRAINING_COLUMNS: list[TrainingColumn] = [
    TrainingColumn(
        "train_step_ms",
        "Step, median",
        lambda cost: cost.step_ms.get("median"),
        "(ms)",
        short="ms/step",
        digits=0,
        tables=("training",),
        terminal=WIDTH_ALL,
        meaning="median time of a training step in milliseconds, teachers included",
    ),
    TrainingColumn(
        "train_memory_mb",
        "Peak memory",
        lambda cost: cost.peak_memory_mb,
        "(MB)",
        digits=0,
        tables=("training",),
        meaning="peak memory of a training step in MB",
    ),
    TrainingColumn(
        "dropped_params",
        "Dropped parameters",
        lambda cost: cost.dropped_params,
        "(k)",
        unit_size=1e3,
        tables=("training",),
        meaning="parameters of the terms, which are dropped after the training",
        logged_as="dropped_params_k",
        is_count=True,
    ),
]
"""Columns of the costs of a training step, after those of the model."""


@dataclass(frozen=True)
class RowCosts:
    """What was measured for a row.

    Attributes:
        model: Cost of its model.
        training: Cost of a step of its training.
    """

    model: CostRecord | None = None
    training: TrainingCost | None = None

    def values(self, columns: Sequence[CostColumn]) -> dict[str, float | None]:
        """Return the unrounded values by the keys of the columns and of `TRAINING_COLUMNS`."""
        model, training = self.model, self.training
        found = {column.key: column.value(model) for column in columns} if model else {}
        return found | ({c.key: c.value(training) for c in TRAINING_COLUMNS} if training else {})

    def logged(self, columns: Sequence[CostColumn]) -> dict[str, float]:
        """Return the values by their names in MLflow, in the units of the tables."""
        found = logged_costs(self.model, columns) if self.model else {}
        return found | (logged_costs(self.training, TRAINING_COLUMNS) if self.training else {})


def declared() -> list[CostColumn | CostFamily]:
    """Return columns and families in the order of data, the parts of a sum after it."""
    entries: list[CostColumn | CostFamily] = []
    for entry in COST_COLUMNS:
        entries.append(entry)
        if isinstance(entry, CostColumn) and entry.parts:
            entries.append(entry.parts)
    return entries


def cost_columns(costs: Sequence[CostRecord]) -> list[CostColumn]:
    """Return the columns for what was measured, in the order of data."""
    return [
        column
        for entry in declared()
        for column in (entry.columns(costs) if isinstance(entry, CostFamily) else [entry])
    ]


def number_types(keys: Iterable[str]) -> dict[str, str]:
    """Return pandas types of columns of numbers: `Int64` for counts, which may be missing, else `float`."""
    counts = {entry.key for entry in COST_COLUMNS if isinstance(entry, CostColumn) and entry.is_count}
    counts |= {column.key for column in TRAINING_COLUMNS if column.is_count}
    return {key: "Int64" if key in counts else "float" for key in keys}


def logged_costs(cost: Subject, columns: Sequence[MeasuredColumn[Subject]]) -> dict[str, float]:
    """Return the values of a record by their names in MLflow, in the units of the tables."""
    values = ((column, column.value(cost)) for column in columns)
    return {column.metric: value / column.unit_size for column, value in values if value is not None}


def column_of_metric(metric: str) -> CostColumn | TrainingColumn | None:
    """Return the column with a name in MLflow; None if there is none."""
    if training := next((column for column in TRAINING_COLUMNS if column.metric == metric), None):
        return training
    found = _find(metric, lambda column: column.metric)
    if found is None:
        return None
    entry, name = declared()[found[0]], found[1]
    return entry.column(name) if isinstance(entry, CostFamily) else entry


def ordered_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys of all columns in the order of data; of families, those that are in `keys`."""
    entries = declared()
    fixed = [entry.key for entry in entries if isinstance(entry, CostColumn)]

    def position(key: str) -> tuple[int, tuple[int, str]] | None:
        if (found := _find(key, lambda column: column.key)) is None:
            return None
        entry = entries[found[0]]
        return found[0], entry.rank(found[1]) if isinstance(entry, CostFamily) else (0, "")

    positions = {key: place for key in (*fixed, *keys) if (place := position(key)) is not None}
    return [*sorted(positions, key=lambda key: positions[key]), *(column.key for column in TRAINING_COLUMNS)]


def _find(text: str, label: Callable[[CostColumn], str]) -> tuple[int, str] | None:
    """Return the index of the entry that declares a label, and the name that fits a family best."""
    fits = []
    for index, entry in enumerate(declared()):
        if isinstance(entry, CostColumn):
            if label(entry) == text:
                return index, ""
            continue
        start, _, end = label(entry.pattern).partition(entry.placeholder)
        if text.startswith(start) and text.endswith(end) and len(text) > len(start) + len(end):
            fits.append((len(start), index, text[len(start) : len(text) - len(end)]))
    return max(fits)[1:] if fits else None
