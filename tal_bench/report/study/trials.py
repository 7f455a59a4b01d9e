"""Tuning runs as tables: what was tried, what came of it, which settings mattered."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd

from tal_bench.report.study.collect import Row
from tal_bench.results.records import RunResult

FEWEST = 4
"""Finished trials from which on importances are computed."""
LOG_FROM = 8.0
"""Ratio of the largest to the smallest value from which on a setting is looked at on a logarithmic scale."""


def trial_table(row: Row) -> pd.DataFrame:
    """A line per tuning run of a row, in the order in which they were proposed.

    Columns: `number`, `status`, `map` (validation, percent; that of the last evaluation for pruned runs),
    `best` (of the finished runs so far), and one per setting that was varied.
    """
    lines = [
        {"number": number, "status": trial.status, "map": validation_map(trial)} | settings(trial)
        for number, trial in enumerate(row.trials)
    ]
    table = pd.DataFrame(lines, columns=None if lines else ["number", "status", "map"])
    finished = table["map"].where(table["status"] == "finished")
    table.insert(3, "best", finished.cummax().ffill())
    varied = [name for name in table.columns[4:] if table[name].nunique() > 1]
    return table[["number", "status", "map", "best", *varied]]


def validation_map(trial: RunResult) -> float:
    """Average mAP on validation at the end of a run, or where it was stopped; NaN when nothing is known."""
    seen = [epoch.validation_map for epoch in trial.history if epoch.validation_map is not None]
    return trial.metrics.get("map_avg", seen[-1] if seen else math.nan)


def settings(trial: RunResult) -> dict[str, float]:
    """Everything in a run's spec that a search may vary, by name: schedule, objective, sizes."""
    spec = trial.spec
    found = {**_numbers(spec.train.model_dump()), **_numbers(spec.detector.model_dump())}
    if spec.distill is not None:
        found |= {"soft_weight": spec.distill.soft_weight, "temperature": spec.distill.temperature}
        found |= {f"weight/{term.name}": term.weight for term in spec.distill.terms}
        found |= {f"share/{role}": use.weight for role, use in spec.distill.teachers.items()}
    return found


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def is_logarithmic(values: pd.Series) -> bool:
    """Whether a setting's values span so much that their logarithms are to be shown."""
    return bool(values.min() > 0 and values.max() / values.min() >= LOG_FROM)


def importances(table: pd.DataFrame) -> dict[str, float]:
    """Setting to its share of the variance of validation mAP over finished trials (fANOVA, Optuna's).

    Empty with fewer than `FEWEST` finished trials or without a difference to explain. A few trials say
    little: the share is that of a forest fitted to them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its progress bars miss ipywidgets, in a notebook
        import optuna
        from optuna.importance import FanovaImportanceEvaluator

    finished = table[(table["status"] == "finished") & table["map"].notna()]
    names = [name for name in table.columns[4:] if finished[name].nunique() > 1]
    if len(finished) < FEWEST or not names or finished["map"].nunique() < 2:
        return {}
    distributions: dict[str, Any] = {}
    for name in names:
        values = finished[name]
        low, high, log = float(values.min()), float(values.max()), is_logarithmic(values)
        distributions[name] = optuna.distributions.FloatDistribution(low, high, log=log)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for line in finished.to_dict("records"):
        study.add_trial(
            optuna.trial.create_trial(
                value=float(line["map"]),
                params={name: float(line[name]) for name in names},
                distributions=distributions,
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = FanovaImportanceEvaluator(n_trees=32, seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}
