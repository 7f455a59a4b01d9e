"""Specs, results and contexts of studies that never train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import FAST, tiny_spec

from tal_bench.config import Budget, RunSpec
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.results.records import RunResult
from tal_bench.studies.run_specs import Context


def run_spec(model: str = "conv-dw-hallucinated", folder: Path = Path(), **changes: Any) -> RunSpec:
    dataset = tiny_spec(folder=folder)
    architecture = detector_spec(get_model(model), dataset, 3)
    value = {"dataset": dataset, "model": model, "detector": architecture, "train": FAST}
    return RunSpec(**{**value, **changes})


def result_of(spec: RunSpec, status: Any = "finished", score: float = 10.0) -> RunResult:
    metrics = {} if status == "failed" else {"map_0.50": score, "map_avg": score}
    error = "out of luck" if status == "failed" else None
    return RunResult(hash=spec.hash, spec=spec, status=status, metrics=metrics, error=error)


def context(folder: Path, **changes: Any) -> Context:
    value: dict[str, Any] = {
        "dataset": tiny_spec(),
        "classes": 3,
        "student": "conv-dw-hallucinated",
        "teacher": "actionformer",
        "budget": Budget(trials=1, seeds=2),
        "seed": 0,
        "folder": folder,
        "device": "cpu",
        "precision": "fp32",
    }
    return Context(**{**value, **changes})
