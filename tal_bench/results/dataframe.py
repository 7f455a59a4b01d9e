"""Runs as a pandas table with one row per run, as `tal_bench.load_runs` returns it.

The columns are those of `RUN_COLUMNS`, the metrics of the runs, and those of `results.columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.config import RunSpec
from tal_bench.errors import InputError
from tal_bench.results.columns import RowCosts, cost_columns, ordered_keys
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult, StudyRecord

SPLITS = {"tuning": "validation", "final": "test"}
METRICS = {
    "map_<tIoU>, map_avg": "mAP in percent; `map_0.50-0.95` over a second grid if the dataset has one",
    "recall_<k>x_<tIoU>": "Recall@kx in percent, if the dataset declares it",
}
"""Columns of metrics and their meaning; NaN for runs that have none."""


@dataclass(frozen=True)
class RunColumn:
    """A column of runs.

    Attributes:
        key: Name of the column.
        meaning: What it holds.
        value: Function of a run, its study and its row, if it belongs to one.
        param: Param in MLflow that holds the value; empty for the tag `tal_bench.<key>`.
        last: Whether the column follows the metrics and costs.
    """

    key: str
    meaning: str
    value: Callable[[RunResult, StudyRecord, RowRecord | None], str | int]
    param: str = ""
    last: bool = False


def teacher_names(spec: RunSpec, row: RowRecord | None) -> str:
    """Return the registered models of the teachers, joined by ` + `; empty without a teacher."""
    if row is not None and row.teachers:
        return " + ".join(row.teachers.values())
    return " + ".join(use.model for use in spec.distill.teachers.values()) if spec.distill else ""


RUN_COLUMNS = (
    RunColumn("study", "name of the study", lambda run, study, row: study.spec.name),
    RunColumn("dataset", "name of the dataset", lambda run, study, row: study.dataset),
    RunColumn("row", "row of the study", lambda run, study, row: row.name if row else run.spec.model),
    RunColumn(
        "kind",
        "`teacher`, `reference` or `student`; empty without a row",
        lambda run, study, row: row.kind if row else "",
    ),
    RunColumn(
        "variant",
        "name of a student's row, otherwise empty",
        lambda run, study, row: row.name if row and row.kind == "student" else "",
    ),
    RunColumn(
        "student", "registered model that was trained", lambda run, study, row: run.spec.model, param="model"
    ),
    RunColumn(
        "teacher",
        "registered models of the teachers, joined by ` + `; empty without a teacher",
        lambda run, study, row: teacher_names(run.spec, row),
    ),
    RunColumn(
        "modalities",
        "modalities that the model reads at inference",
        lambda run, study, row: row.modalities if row else " + ".join(run.spec.detector.reads),
    ),
    RunColumn("seed", "seed of the run", lambda run, study, row: run.spec.seed, param="seed"),
    RunColumn(
        "split",
        "`validation` for tuning runs, `test` for final runs",
        lambda run, study, row: SPLITS[run.spec.phase],
    ),
    RunColumn("status", "`finished`, `pruned` or `failed`", lambda run, study, row: run.status),
    RunColumn(
        "commit",
        "commit of the code",
        lambda run, study, row: run.environment.get("commit", ""),
        last=True,
    ),
    RunColumn("hash", "hash of the run", lambda run, study, row: run.hash, last=True),
)
"""Columns of runs other than metrics and costs, in their order."""


def load_folder(folder: Path) -> pd.DataFrame:
    """Read the runs of a study's folder, or of all studies directly below a folder.

    Raises:
        InputError: The folder contains no study.
    """
    studies = (
        [folder]
        if (folder / "study.json").is_file()
        else sorted(file.parent for file in folder.glob("*/study.json"))
    )
    if not studies:
        raise InputError("no study.json there or one level below", where=folder, hint="give a study's folder")
    return make_table(line for study in studies for line in _lines(StudyFolder(study)))


def _lines(files: StudyFolder) -> Iterator[dict[str, Any]]:
    record = files.read_study()
    results = {result.hash: result for result in files.runs()}
    rows = (*record.rows, *record.searches)
    costs = [row_costs(files, row) for row in rows]
    columns = cost_columns([cost.model for cost in costs if cost.model])
    seen: set[str] = set()
    for row, cost in zip(rows, costs, strict=True):
        measured = cost.values(columns)
        for hash_ in row.runs:
            seen.add(hash_)
            if hash_ in results:
                yield run_line(results[hash_], record, row) | measured
    for hash_, result in results.items():
        if hash_ not in seen:
            yield run_line(result, record, None)


def row_costs(files: StudyFolder, row: RowRecord) -> RowCosts:
    """Return what was measured for a row."""
    return RowCosts(
        model=files.read_cost(row.cost) if row.cost else None,
        training=files.read_training_cost(row.training) if row.training else None,
    )


def run_line(result: RunResult, record: StudyRecord, row: RowRecord | None) -> dict[str, Any]:
    """Return the columns of a run without costs."""
    return {column.key: column.value(result, record, row) for column in RUN_COLUMNS} | result.metrics


def make_table(lines: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Build the table with all documented columns in their documented order."""
    table = pd.DataFrame(list(lines))
    maps = sorted(c for c in table.columns if c.startswith("map_") and c != "map_avg")
    recalls = sorted(c for c in table.columns if c.startswith("recall_"))
    numbers = [*maps, "map_avg", *recalls, *ordered_keys(table.columns)]
    names, last = ([c.key for c in RUN_COLUMNS if c.last == place] for place in (False, True))
    return table.reindex(columns=[*names, *numbers, *last]).astype(dict.fromkeys(numbers, float))
