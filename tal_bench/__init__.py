"""Benchmark and ablation suite for two-stream to RGB-only distillation in temporal action localization.

The public interface; each name is imported on first use:

    ablate          run a study: tune, train and test every row, write its tables
    dry_run         report what `ablate` would do: rows, runs, how many are on disk
    train_one       train and test one model
    score_checkpoint  test a weights file on a dataset
    detect          detect action segments in video files
    load_runs       read the runs of a study or an MLflow experiment into a pandas table
    load_model      load a network from a weights file
    collect         read a study's rows with means, intervals and costs
    write_report    write a study's page, tables and figures
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# read once by torch: large pages for tensors of 2 MB or more, which saves a tenth of a bf16 training step
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_PUBLIC = {
    "ablate": "tal_bench.studies.ablate",
    "ExecutionOptions": "tal_bench.studies.ablate",
    "dry_run": "tal_bench.studies.dry_run",
    "train_one": "tal_bench.studies.single_run",
    "score_checkpoint": "tal_bench.studies.single_run",
    "detect": "tal_bench.inference.detect",
    "load_runs": "tal_bench.tracking.dataframe",
    "load_model": "tal_bench.models.checkpoint",
    "collect": "tal_bench.report.study.collect",
    "write_report": "tal_bench.report.study.write",
}
"""Module that defines each public name."""

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tal_bench' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
