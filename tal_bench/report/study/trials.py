"""Tables of tuning runs and importances of their settings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tal_bench.report.study.collect import Row
from tal_bench.results.records import RunResult

MIN_TRIALS = 4
"""Minimum number of finished trials for importances."""
LOG_FROM = 8.0
"""Ratio of the largest to the smallest value from which a setting uses a logarithmic scale."""


def trial_table(row: Row) -> pd.DataFrame:
    """Return a table with one line per tuning run of a row, in the order in which they were proposed.

    Columns: `number`, `status`, `map` (on validation in percent; last evaluation of pruned runs), `best`
    (best `map` of finished runs so far), and one column per setting that was varied.
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


def trials_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the tables of `trial_table` of all tuned rows one below the other, with the column `row`."""
    tables = [trial_table(row).assign(row=row.name) for row in rows if row.trials]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["row"])
    return table[["row", *(name for name in table.columns if name != "row")]]


def validation_map(trial: RunResult) -> float:
    """Return the average mAP on validation at the end of a run or at its last evaluation, else NaN."""
    history = [epoch.validation_map for epoch in trial.history if epoch.validation_map is not None]
    return trial.metrics.get("map_avg", history[-1] if history else math.nan)


def settings(trial: RunResult) -> dict[str, float]:
    """Return the numeric settings of a run that tuning may vary, by name."""
    spec = trial.spec
    values = {**_numbers(spec.train.model_dump()), **_numbers(spec.detector.model_dump())}
    if spec.distill is not None:
        values |= {"soft_weight": spec.distill.soft_weight, "temperature": spec.distill.temperature}
        values |= {f"weight/{term.name}": term.weight for term in spec.distill.terms}
        values |= {f"share/{role}": use.weight for role, use in spec.distill.teachers.items()}
    return values


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def is_logarithmic(values: pd.Series) -> bool:
    """Return whether the values of a setting span a range that calls for a logarithmic scale."""
    return bool(values.min() > 0 and values.max() / values.min() >= LOG_FROM)


def importances(table: pd.DataFrame) -> dict[str, float]:
    """Return the share of the variance of validation mAP that each setting explains (Optuna's fANOVA).

    The result is empty if there are fewer than `MIN_TRIALS` finished trials or their mAP is equal. Shares are
    those of a random forest fitted to the trials and unreliable for few trials.
    """
    finished = table[(table["status"] == "finished") & table["map"].notna()]
    names = [name for name in table.columns[4:] if finished[name].nunique() > 1]
    if len(finished) < MIN_TRIALS or not names or finished["map"].nunique() < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing progress bars in a notebook warns about ipywidgets
        import optuna
        from optuna.importance import FanovaImportanceEvaluator

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
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}
