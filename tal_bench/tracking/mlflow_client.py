"""The few requests that tracking makes of MLflow, quietly, and as many at once as it takes."""

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

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its own default keeps a study waiting for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "GIT_PYTHON_REFRESH": "quiet",
}
KEYS, METRICS = 100, 900
"""Params and tags together, and metrics, that one request may carry (1000 in all)."""
SQLITE = "sqlite:///"
NEW = ".new"
"""End of the name of a file that is being made."""
ABOUT = {
    "mlflow.experimentKind": "custom_model_development",  # the pages for training, not those for prompts
    "mlflow.note.content": "Studies of `tal-bench`: one run per study, and below it one per training. "
    "mAP is in percent; `cost/minute_s` is seconds spent on one minute of video.",
}


@contextmanager
def sqlite_lock(uri: str) -> Iterator[None]:
    """Nobody else makes the tables of an SQLite file meanwhile, which would break it for both."""
    if not uri.startswith(SQLITE):
        yield
        return
    file = Path(f"{uri.removeprefix(SQLITE)}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, timeout=60):
        yield
        file.unlink(missing_ok=True)


def connect(uri: str) -> Any:
    """A client that keeps its remarks to itself; makes a new SQLite file with its tables, in some seconds."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if uri.startswith(SQLITE):
        file = Path(uri.removeprefix(SQLITE))
        if not file.exists():
            _make_tables(file)
    return MlflowClient(uri)


def _make_tables(file: Path) -> None:
    """A file that has all of its tables or is not there: MLflow cannot mend one whose making was killed."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in file.parent.glob(f"{file.name}.*{NEW}*"):
        left.unlink()
    new = file.with_name(f"{file.name}.{uuid4().hex[:8]}{NEW}")
    made = SqlAlchemyStore(f"{SQLITE}{new}", str(file.resolve().parent / "mlruns"))
    made.engine.dispose()  # the last connection to close writes everything into the file
    new.replace(file)


def experiment_id(client: Any, uri: str, name: str) -> str:
    """Find or make an experiment; a new one in an SQLite file keeps its artifacts in `mlruns` beside it."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        for key in ABOUT.keys() - found.tags.keys():
            client.set_experiment_tag(found.experiment_id, key, ABOUT[key])
        return str(found.experiment_id)
    place = None
    if uri.startswith(SQLITE):
        place = (Path(uri.removeprefix(SQLITE)).resolve().parent / "mlruns").as_uri()
    return str(client.create_experiment(name, artifact_location=place, tags=ABOUT))


def watch(uri: str, run_id: str) -> Any:
    """Log the load of the machine to a run until `finish` is called; what cannot be measured is left out."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, sampling_interval=5, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor


def search(client: Any, experiment: str, query: str) -> Iterator[Any]:
    """All runs that match, page after page, oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment], query, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
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
    when: int | None = None,
) -> None:
    """Add to a run in as few requests as the server takes.

    Args:
        client: from `connect`.
        run_id: of the run.
        metrics: name, value, step.
        params: name to value.
        tags: name to value.
        when: milliseconds, of the metrics; now when none.
    """
    from mlflow.entities import Metric, Param, RunTag

    time_ms = when or int(1000 * time.time())
    measured = [Metric(name, value, time_ms, step) for name, value, step in metrics]
    tagged = [RunTag(name, value) for name, value in (tags or {}).items()]
    given = [Param(name, value) for name, value in (params or {}).items()]
    while measured or given or tagged:
        some_tags = tagged[:KEYS]
        some_params = given[: KEYS - len(some_tags)]
        client.log_batch(
            run_id, metrics=measured[:METRICS], params=some_params, tags=some_tags, synchronous=True
        )
        measured, given, tagged = measured[METRICS:], given[len(some_params) :], tagged[len(some_tags) :]
