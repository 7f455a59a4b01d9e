"""Requests to MLflow, without its console output."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from tal_bench.errors import InputError
from tal_bench.system.text import first_line

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a sync that fails is repeated as a whole
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "GIT_PYTHON_REFRESH": "quiet",
}
SQLITE = "sqlite:///"
TEMPORARY_SUFFIX = ".new"
"""Suffix of an SQLite file whose tables are being created."""
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # selects MLflow's pages for training
    "mlflow.note.content": "A study of `tal-bench`: one run per row of its table, with its trials and seeds "
    "below it. mAP is in percent; `cost/minute_s` is seconds per minute of video.",
}
STUDY_ID = "tal_bench.id"


def prepare() -> None:
    """Import MLflow and limit what it prints to warnings."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import_module("mlflow.store.tracking.sqlalchemy_store")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints what it raises, too


def connect(uri: str) -> Any:
    """Return a client; creates a missing SQLite file, which takes seconds.

    Raises:
        InputError: The store is a database of another MLflow version.
    """
    prepare()
    from mlflow import MlflowClient

    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        _create_database(Path(uri.removeprefix(SQLITE)))
    check_schema(uri)
    return MlflowClient(uri)


def _create_database(file: Path) -> None:
    """Create an SQLite file with all tables, in one process and atomically: MLflow cannot repair a part."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=60) as lock:
        if not file.exists():
            for leftover in file.parent.glob(f"{file.name}.*{TEMPORARY_SUFFIX}*"):
                leftover.unlink()
            temporary = file.with_name(f"{file.name}.{uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
            store = SqlAlchemyStore(f"{SQLITE}{temporary}", str(file.resolve().parent / "mlruns"))
            store.engine.dispose()  # closing the last connection writes everything into the file
            temporary.replace(file)
        Path(lock.lock_file).unlink(missing_ok=True)


def check_schema(uri: str) -> None:
    """Check that a database has the tables that the installed MLflow expects, or none; servers are skipped.

    Raises:
        InputError: The tables are those of an older or newer version, or the database cannot be read.
    """
    if uri.startswith(("http://", "https://")):
        return
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        with create_engine(uri, poolclass=NullPool).connect() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        raise InputError(f"cannot be read: {first_line(error)}", where=uri) from None
    known = _revisions()
    if found in (None, known[0]):
        return
    installed, upgrade = version("mlflow"), f"mlflow db upgrade {uri}"
    if found in known:
        what = f"a database of an older MLflow than the installed {installed}"
        raise InputError(what, where=uri, hint=f"back it up, then run: {upgrade}")
    what = f"a database of a newer MLflow than the installed {installed}"
    raise InputError(what, where=uri, hint=f"run: pip install --upgrade mlflow && {upgrade}")


@cache
def _revisions() -> tuple[str, ...]:
    """Return the versions of MLflow's tables that the installed MLflow knows, the current one first."""
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent))
    return tuple(script.revision for script in scripts.walk_revisions())


def experiment_id(client: Any, uri: str, name: str, tags: Mapping[str, str]) -> str:
    """Return the id of a study's experiment, which is created if missing and restored if deleted.

    An experiment of that name with another study id belongs to another study folder; the id is then added to
    the name. A new experiment in an SQLite file stores its artifacts in the folder `mlruns` beside the file.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is not None and experiment.tags.get(STUDY_ID, tags[STUDY_ID]) != tags[STUDY_ID]:
        name = f"{name} · {tags[STUDY_ID][:6]}"
        experiment = client.get_experiment_by_name(name)
    if experiment is None:
        beside = Path(uri.removeprefix(SQLITE)).resolve().parent / "mlruns"
        artifacts = beside.as_uri() if uri.startswith(SQLITE) else None
        return str(client.create_experiment(name, artifacts, tags={**EXPERIMENT_TAGS, **tags}))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    wanted = {"mlflow.experimentKind": EXPERIMENT_TAGS["mlflow.experimentKind"], **tags}
    for key, value in wanted.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return str(experiment.experiment_id)


def search(client: Any, experiments: Sequence[str], query: str) -> list[Any]:
    """Return all runs that match a query, oldest first."""
    from mlflow.utils import get_results_from_paginated_fn

    def page(count: int, token: str | None) -> Any:
        return client.search_runs(experiments, query, 1, count, ["attributes.start_time ASC"], token)

    return list(get_results_from_paginated_fn(page, max_results_per_page=1000))
