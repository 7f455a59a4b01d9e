"""Runs as a pandas table with one row per run; `tal_bench.load_runs` reads it and describes its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.config import RunSpec
from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, RunResult, StudyRecord

SPLITS = {"tuning": "validation", "final": "test"}
TEXT_COLUMNS = (
    "study",
    "dataset",
    "row",
    "kind",
    "variant",
    "student",
    "teacher",
    "modalities",
    "seed",
    "split",
    "status",
)
COST_COLUMNS = ("params", "gmacs", "latency_ms", "peak_memory_mb", "minute")
STEPS = ("decode", "flow", "backbone", "detector")
PROVENANCE_COLUMNS = ("commit", "hash")


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
    seen: set[str] = set()
    for row in (*record.rows, *record.searches):
        cost = files.read_cost(row.cost) if row.cost else None
        for hash_ in (*row.trials, *row.finals):
            seen.add(hash_)
            if hash_ in results:
                yield run_line(results[hash_], record, row) | cost_line(cost)
    for hash_, result in results.items():
        if hash_ not in seen:
            yield run_line(result, record, None)


def run_line(result: RunResult, record: StudyRecord, row: RowRecord | None) -> dict[str, Any]:
    """Return the columns of a run without costs."""
    is_student = row is not None and row.kind == "student"
    return {
        "study": record.spec.name,
        "dataset": record.dataset,
        "row": row.name if row else result.spec.model,
        "kind": row.kind if row else "",
        "variant": row.name if row and is_student else "",
        "student": result.spec.model,
        "teacher": teacher_names(result.spec, row),
        "modalities": row.modalities if row else " + ".join(result.spec.detector.reads),
        "seed": result.spec.seed,
        "split": SPLITS[result.spec.phase],
        "status": result.status,
        **result.metrics,
        "commit": result.environment.get("commit", ""),
        "hash": result.hash,
    }


def cost_line(cost: CostRecord | None) -> dict[str, float]:
    """Return the cost columns; empty if the costs have not been measured."""
    if cost is None:
        return {}
    minute = {f"minute_{step}": seconds for step, seconds in cost.minute.items()}
    return {
        "params": float(cost.params),
        "gmacs": cost.gmacs,
        "latency_ms": cost.latency_ms["median"],
        "peak_memory_mb": cost.peak_memory_mb,
        **({"minute": sum(cost.minute.values())} if cost.minute else {}),
        **minute,
    }


def teacher_names(spec: RunSpec, row: RowRecord | None) -> str:
    """Return the registered models of the teachers, joined by ` + `; empty without a teacher."""
    if row is not None and row.teachers:
        return " + ".join(row.teachers.values())
    return " + ".join(use.model for use in spec.distill.teachers.values()) if spec.distill else ""


def make_table(lines: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Build the table with all documented columns in their documented order."""
    table = pd.DataFrame(list(lines))
    maps = sorted(c for c in table.columns if c.startswith("map_") and c != "map_avg")
    recalls = sorted(c for c in table.columns if c.startswith("recall_"))
    measured = [c.removeprefix("minute_") for c in table.columns if c.startswith("minute_")]
    steps = [f"minute_{s}" for s in (*STEPS, *sorted(set(measured) - set(STEPS))) if s in measured]
    columns = [*TEXT_COLUMNS, *maps, "map_avg", *recalls, *COST_COLUMNS, *steps, *PROVENANCE_COLUMNS]
    table = table.reindex(columns=columns)
    numbers = [c for c in columns if c not in TEXT_COLUMNS and c not in PROVENANCE_COLUMNS]
    return table.astype(dict.fromkeys(numbers, float))
