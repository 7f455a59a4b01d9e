"""Runs of a study folder or an MLflow experiment as one table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.errors import InputError
from tal_bench.results.dataframe import PROVENANCE_COLUMNS, TEXT_COLUMNS, load_folder, make_table
from tal_bench.system.background_sync import first_line
from tal_bench.tracking.mlflow_client import connect, search

DEFAULT_URI = "sqlite:///mlflow.db"


def load_runs(source: Path | str, *, tracking_uri: str | None = None) -> pd.DataFrame:
    """Read every run of a study into one table, one row per run.

    Columns, identical for study folders and MLflow experiments:

        study, dataset        names
        row, kind             row of the study; `teacher`, `reference` or `student`, empty without a row
        variant               name of the row for students, else empty
        student, teacher      registered models; several teachers are joined by ` + `, empty without a teacher
        modalities            modalities that the row's model reads at inference
        seed, split, status   split is `validation` for tuning runs and `test` for final runs
        map_0.30 ... map_avg  percent, NaN if the run has none
        map_0.50-0.95         percent, average over a second grid if the dataset declares one
        recall_1x_0.30 ...    percent, if the dataset declares Recall@kx
        params, gmacs, latency_ms, peak_memory_mb   cost of the row's architecture, NaN until measured
        minute, minute_<step> seconds per minute of video, in total and by step
        commit, hash          commit of the code, hash of the run

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
            key: tags.get(f"tal_bench.{key}", "") for key in (*TEXT_COLUMNS, *PROVENANCE_COLUMNS)
        }
        line["student"], line["seed"] = params.get("model", ""), int(params.get("seed", 0))
        yield line | dict(filter(None, map(_column, run.data.metrics.items())))


def _column(metric: tuple[str, float]) -> tuple[str, float] | None:
    """Convert a logged metric to a column and its value; the inverse of the names in `run_data`."""
    name, value = metric
    if name.startswith("mAP/"):
        at = name.removeprefix("mAP/").removeprefix("tIoU_")
        return f"map_{at if at == 'avg' or '-' in at else f'{float(at):.2f}'}", value
    if name.startswith("recall_"):
        kind, _, at = name.partition("/")
        return (f"{kind}_avg" if at == "avg" else f"{kind}_{float(at.removeprefix('tIoU_')):.2f}"), value
    if name == "cost/params_M":
        return "params", value * 1e6
    if name == "cost/minute_s":
        return "minute", value
    if name.startswith("cost/minute_"):
        return name.removeprefix("cost/").removesuffix("_s"), value
    return (name.removeprefix("cost/"), value) if name.startswith("cost/") else None
