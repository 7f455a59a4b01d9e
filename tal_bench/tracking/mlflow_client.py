"""Requests to MLflow, batched and without its console output."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default blocks a study for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "GIT_PYTHON_REFRESH": "quiet",
}
MAX_KEYS, MAX_METRICS = 100, 900
"""Maximum number of params and tags, and of metrics, in one request (1000 in total)."""
SQLITE = "sqlite:///"
TEMPORARY_SUFFIX = ".new"
"""Suffix of an SQLite file whose tables are being created."""
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # selects MLflow's pages for training
    "mlflow.note.content": "A study of `tal-bench`: one run per row of its table, with its trials and seeds "
    "below it. mAP is in percent; `cost/minute_s` is seconds per minute of video.",
}
STUDY_ID = "tal_bench.id"


@contextmanager
def sqlite_lock(uri: str) -> Iterator[None]:
    """Prevent other processes from creating the tables of the same SQLite file at the same time."""
    if not uri.startswith(SQLITE):
        yield
        return
    file = Path(f"{uri.removeprefix(SQLITE)}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, timeout=60):
        yield
        file.unlink(missing_ok=True)


def connect(uri: str) -> Any:
    """Return a client; creates a missing SQLite file, which takes seconds. Reduces logging to warnings."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith(SQLITE):
        file = Path(uri.removeprefix(SQLITE))
        if not file.exists():
            _create_database(file)
    return MlflowClient(uri)


def _create_database(file: Path) -> None:
    """Create an SQLite file with all tables atomically: MLflow cannot repair a partly created one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for leftover in file.parent.glob(f"{file.name}.*{TEMPORARY_SUFFIX}*"):
        leftover.unlink()
    temporary = file.with_name(f"{file.name}.{uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    store = SqlAlchemyStore(f"{SQLITE}{temporary}", str(file.resolve().parent / "mlruns"))
    store.engine.dispose()  # closing the last connection writes everything into the file
    temporary.replace(file)


def experiment_id(client: Any, uri: str, name: str, tags: Mapping[str, str]) -> str:
    """Return the id of a study's experiment, which is created if missing and restored if deleted.

    An experiment of that name with another id belongs to another study folder; the id is then added to the
    name.

    A new experiment in an SQLite file stores its artifacts in the folder `mlruns` next to the file.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        suffix = f" · {tags[STUDY_ID][:6]}"
        if experiment.tags.get(STUDY_ID, tags[STUDY_ID]) != tags[STUDY_ID] and not name.endswith(suffix):
            return experiment_id(client, uri, name + suffix, tags)
        wanted = {**EXPERIMENT_TAGS, **tags}
        for key, value in wanted.items():
            if key != "mlflow.note.content" and experiment.tags.get(key) != value:
                client.set_experiment_tag(experiment.experiment_id, key, value)
        return str(experiment.experiment_id)
    artifacts = None
    if uri.startswith(SQLITE):
        artifacts = (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlruns").as_uri()
    return str(client.create_experiment(name, artifact_location=artifacts, tags={**EXPERIMENT_TAGS, **tags}))


def start_system_metrics(uri: str, run_id: str) -> Any:
    """Log the machine's load to a run until `finish` of the returned monitor is called."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor


def search(client: Any, experiments: Sequence[str], query: str) -> Iterator[Any]:
    """Yield all runs that match a query, oldest first."""
    token = None
    while True:
        page = client.search_runs(
            list(experiments),
            query,
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def send(
    client: Any,
    run_id: str,
    metrics: Sequence[tuple[str, float, int]] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    timestamp: int | None = None,
) -> None:
    """Add metrics, params and tags to a run in as few requests as possible.

    Args:
        client: Client returned by `connect`.
        run_id: Id of the MLflow run.
        metrics: Name, value and step of each metric.
        params: Value of each param.
        tags: Value of each tag.
        timestamp: Time of the metrics in milliseconds since the epoch; the current time if None.
    """
    from mlflow.entities import Metric, Param, RunTag

    time_ms = timestamp or int(1000 * time.time())
    all_metrics = [Metric(name, value, time_ms, step) for name, value, step in metrics]
    all_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
    all_params = [Param(name, value) for name, value in (params or {}).items()]
    while all_metrics or all_params or all_tags:
        batch_metrics, all_metrics = all_metrics[:MAX_METRICS], all_metrics[MAX_METRICS:]
        batch_tags, all_tags = all_tags[:MAX_KEYS], all_tags[MAX_KEYS:]
        room = MAX_KEYS - len(batch_tags)
        batch_params, all_params = all_params[:room], all_params[room:]
        client.log_batch(
            run_id, metrics=batch_metrics, params=batch_params, tags=batch_tags, synchronous=True
        )
