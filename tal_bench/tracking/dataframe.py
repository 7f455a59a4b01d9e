"""Runs of a study folder or an MLflow experiment as one table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.errors import InputError
from tal_bench.results.columns import column_of_metric
from tal_bench.results.dataframe import RUN_COLUMNS, load_folder, make_table
from tal_bench.system.text import first_line
from tal_bench.tracking.mlflow_client import connect, search
from tal_bench.tracking.run_data import TAGS, column_of_score

DEFAULT_URI = "sqlite:///mlflow.db"


def load_runs(source: Path | str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Read every run of a study into one table, one row per run.

    The columns are the same for study folders and MLflow experiments, and are listed in docs/report.md:
    names, seed, split and status of the run, its metrics in percent, the costs of its row's architecture (NaN
    until measured), commit and hash.

    A run shared by several rows (a reference that is also the baseline) appears once for each of them.

    Args:
        source: Study folder, folder that contains study folders, or name of an MLflow experiment.
        tracking_uri: URI of the MLflow store. If given, ``source`` is the name of an experiment.

    Raises:
        InputError: The study or experiment does not exist.
    """
    if tracking_uri is None and Path(source).is_dir():
        return load_folder(Path(source))
    return load_experiment(str(source), tracking_uri)


def load_experiment(name: str, tracking_uri: str | None = None) -> pd.DataFrame:
    """Read the runs that tal_bench logged to an MLflow experiment.

    Raises:
        InputError: The store cannot be read, or has no such experiment.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.is_file():  # reading must not create an empty store
        raise InputError(
            f"'{name}' is neither a folder nor, without {database}, an MLflow experiment",
            where="source",
            hint="give a study's folder, or the experiment's name and tracking_uri",
        )
    from mlflow.exceptions import MlflowException

    try:
        client = connect(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = ", ".join(e.name for e in client.search_experiments())
            raise InputError(f"no MLflow experiment '{name}'", where=uri, hint=f"known: {known}")
        return make_table(_logged_runs(client, experiment.experiment_id))
    except MlflowException as error:
        raise InputError(f"MLflow cannot be read: {first_line(error)}", where=uri) from None


def _logged_runs(client: Any, experiment: str) -> Iterator[dict[str, Any]]:
    for run in search(client, [experiment], "tags.`tal_bench.hash` != ''"):
        tags, params = run.data.tags, run.data.params
        line: dict[str, Any] = {
            c.key: params.get(c.param, "") if c.param else tags.get(TAGS + c.key, "") for c in RUN_COLUMNS
        }
        line["seed"] = int(line["seed"] or 0)
        yield line | dict(filter(None, map(_column, run.data.metrics.items())))


def _column(metric: tuple[str, float]) -> tuple[str, float] | None:
    """Convert a logged metric to a column and its value; None for metrics that are no columns."""
    name, value = metric
    if cost := column_of_metric(name):
        return cost.key, value * cost.unit_size
    score = column_of_score(name)
    return (score, value) if score else None
