"""List of all columns, for the documentation and `tal-bench list columns`."""

from __future__ import annotations

from tal_bench.report.study.columns import COLUMNS, Column, as_column, as_training_column
from tal_bench.results.columns import TRAINING_COLUMNS, CostColumn, CostFamily, TrainingColumn, declared
from tal_bench.results.dataframe import METRICS, RUN_COLUMNS

Lines = list[tuple[str, str, str]]
"""Keys, meaning, and where else the values are."""


def column_list() -> dict[str, Lines]:
    """Return the lines of all declared columns by their kind."""
    return {
        "rows (table.csv, summary.json)": _rows(),
        "costs (table.csv, summary.json, load_runs)": _costs(),
        "runs (load_runs)": [
            *((c.key, c.meaning, _in_mlflow(c.key, c.param)) for c in RUN_COLUMNS if not c.last),
            *((keys, meaning, "") for keys, meaning in METRICS.items()),
            *((c.key, c.meaning, _in_mlflow(c.key, c.param)) for c in RUN_COLUMNS if c.last),
        ],
    }


def _rows() -> Lines:
    return [
        (c.key, c.described, _in_tables(c)) if isinstance(c, Column) else (c.keys, c.meaning, "")
        for c in COLUMNS
        if isinstance(c, Column) or c.keys
    ]


def _costs() -> Lines:
    columns = [entry.pattern if isinstance(entry, CostFamily) else entry for entry in declared()]
    shown: list[tuple[CostColumn | TrainingColumn, Column]] = [(c, as_column(c)) for c in columns]
    shown += [(column, as_training_column(column)) for column in TRAINING_COLUMNS]
    return [
        (c.key, c.described, "; ".join(filter(None, (_in_tables(row), f"MLflow: {c.metric}"))))
        for c, row in shown
    ]


def _in_tables(column: Column) -> str:
    return f"tables: {column.heading.line}" if column.tables else ""


def _in_mlflow(key: str, param: str) -> str:
    return f"MLflow: param {param}" if param else f"MLflow: tag tal_bench.{key}"
