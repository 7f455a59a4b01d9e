"""MLflow and the Optuna storage may be down, slow, killed or of another version: the study is the same.

Slow, with an MLflow server and PostgreSQL: `TAL_BENCH_SLOW=1 pytest tests/integration/test_mirrors.py`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import finished, run, start, wait_until
from servers import HOST, Postgres, free_port, mlflow_server
from test_executors import trials, with_driver
from test_interrupt import ALL_RUNS
from test_study import ROWS, mlflow_runs, table
from tiny import STUDY, study_words

from tal_bench.cli import main
from tal_bench.studies import ablate

slow = pytest.mark.skipif("TAL_BENCH_SLOW" not in os.environ, reason="takes minutes; set TAL_BENCH_SLOW=1")
TRIALS = {"none": ["COMPLETE"], "both": ["COMPLETE"]}
WARNING = "cannot be written"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def here(tmp_path: Path, undisturbed: Path) -> Path:
    """Directory with a study whose runs have all ended, so that a command does nothing but mirror it."""
    shutil.copytree(undisturbed, tmp_path / STUDY)
    (tmp_path / STUDY / "optuna.journal").unlink()
    return tmp_path


def warnings(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Check that a study ended well; return its warnings."""
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return [line for line in result.stderr.splitlines() if WARNING in line]


def check_whole(parents: Sequence[Any], children: Sequence[Any]) -> None:
    """Check that MLflow shows every row and run once, and nothing as running."""
    assert sorted(run.info.run_name for run in parents) == sorted(ROWS)
    assert len({(r.data.tags["tal_bench.row"], r.data.tags["tal_bench.hash"]) for r in children}) == ALL_RUNS
    assert Counter(run.info.status for run in (*parents, *children)) == {"FINISHED": len(ROWS) + ALL_RUNS}
    ids = {run.info.run_id for run in parents}
    assert all(run.data.tags["mlflow.parentRunId"] in ids for run in children)
    assert all({"mAP/avg", "cost/gmacs"} <= run.data.metrics.keys() for run in parents)


def runs_in(store: str) -> tuple[list[Any], list[Any]]:
    """Return the runs of rows, and the nested runs, of a store."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    every = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)
    children = [r for r in every if "mlflow.parentRunId" in r.data.tags]
    return [r for r in every if r not in children], children


def logged(url: str) -> int:
    """Return the number of runs in a database of MLflow."""
    import psycopg

    with psycopg.connect(url) as connection:
        row = connection.execute("select count(*) from runs").fetchone()
    return row[0] if row else 0


@contextmanager
def suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Stop processes, which then keep their connections open and answer nothing."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # a backend whose client has gone
                process.resume()


@slow
def test_a_newer_database_and_no_storage(here: Path, undisturbed: Path, dataset_file: Path) -> None:
    """Both mirrors fail; the next command makes them whole."""
    words = study_words(dataset_file, "--jobs", "1")
    assert not warnings(run(words, here))
    check_whole(*mlflow_runs(here))
    with closing(sqlite3.connect(here / "mlflow.db")) as database, database:
        ((revision,),) = database.execute("select version_num from alembic_version")
        database.execute("update alembic_version set version_num = '0123456789ab'")
    journal = here / STUDY / "optuna.journal"
    journal.unlink()
    journal.mkdir()
    told = warnings(run(words, here))
    assert len(told) == 2
    assert any("newer MLflow than the installed" in line for line in told)
    assert any(f"Optuna storage {journal.relative_to(here)}" in line for line in told)
    assert table(here / STUDY) == table(undisturbed)
    journal.rmdir()
    with closing(sqlite3.connect(here / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = ?", [revision])
    assert not warnings(run(words, here))
    check_whole(*mlflow_runs(here))
    assert journal.is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_load_of_the_machine_is_not_logged_after_an_interrupt(
    here: Path, dataset_file: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupt(*_: object) -> None:
        deadline = time.monotonic() + 60
        while not monitors() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert monitors()
        raise error

    def monitors() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]

    monkeypatch.chdir(here)
    monkeypatch.setattr(ablate, "run_rows", interrupt)
    words = study_words(dataset_file, "--jobs", "1", "--system-metrics")
    assert main([str(word) for word in words]) == (130 if error is KeyboardInterrupt else 1)
    assert not monitors()
    assert not [thread for thread in threading.enumerate() if thread.name == "background sync"]
    parents, _ = mlflow_runs(here)
    assert "RUNNING" not in {run.info.status for run in parents}


@slow
def test_servers_that_are_down(
    tmp_path: Path, undisturbed: Path, dataset_file: Path, postgres: Postgres
) -> None:
    nowhere = f"{HOST}:{free_port()}"
    more = ("--tracking-uri", f"http://{nowhere}", "--storage", f"postgresql://me:secret@{nowhere}/db")
    result = run(study_words(dataset_file, "--jobs", "2", *more), tmp_path)
    told = warnings(result)
    assert len(told) == 2, result.stderr
    assert "secret" not in result.stderr
    assert table(tmp_path / STUDY) == table(undisturbed)
    store, storage = with_driver(postgres.url("down-mlflow")), postgres.url("down-trials")
    with mlflow_server(tmp_path, store) as tracking:
        more = ("--tracking-uri", tracking, "--storage", storage)
        assert not warnings(run(study_words(dataset_file, "--jobs", "2", *more), tmp_path))
        check_whole(*runs_in(tracking))
    assert trials(with_driver(storage)) == TRIALS


@slow
@pytest.mark.parametrize("victim", ["database", "study"])
def test_killed_in_the_middle_of_a_sync(
    here: Path, undisturbed: Path, dataset_file: Path, postgres: Postgres, victim: str
) -> None:
    url, storage = postgres.url(f"{victim}-mlflow"), postgres.url(f"{victim}-trials")
    with mlflow_server(here, with_driver(url)) as tracking:
        words = study_words(dataset_file, "--jobs", "1", "--tracking-uri", tracking, "--storage", storage)
        for moment in (2, 9):  # when so many runs have been logged
            process = start(words, here)
            wait_until(process, lambda moment=moment: logged(url) >= moment)  # type: ignore[misc]
            if victim == "study":
                process.kill()
                finished(process)
            else:
                postgres.stop()
                assert warnings(finished(process)), "killed in the middle"
                assert table(here / STUDY) == table(undisturbed)
                postgres.start()
        assert not warnings(run(words, here))
        check_whole(*runs_in(tracking))
    assert trials(with_driver(storage)) == TRIALS


@slow
def test_a_tracker_that_is_killed_in_the_middle_of_a_sync(
    here: Path, undisturbed: Path, dataset_file: Path, postgres: Postgres
) -> None:
    url, storage = postgres.url("mlflow"), postgres.url("trials")
    more = ("--jobs", "1", "--storage", storage, "--tracking-uri")
    with mlflow_server(here, with_driver(url)) as tracking:
        process = start(study_words(dataset_file, *more, tracking), here)
        wait_until(process, lambda: logged(url) >= 5)
    assert warnings(finished(process)), "killed in the middle"
    assert table(here / STUDY) == table(undisturbed)
    with mlflow_server(here, with_driver(url)) as tracking:
        assert not warnings(run(study_words(dataset_file, *more, tracking), here))
        check_whole(*runs_in(tracking))
    assert trials(with_driver(storage)) == TRIALS


@slow
def test_servers_that_stop_answering(
    here: Path, undisturbed: Path, dataset_file: Path, postgres: Postgres
) -> None:
    url, storage = postgres.url("slow-mlflow"), postgres.url("slow-trials")
    with mlflow_server(here, with_driver(url)) as tracking:
        words = study_words(dataset_file, "--jobs", "1", "--tracking-uri", tracking, "--storage", storage)
        process = start(words, here)
        wait_until(process, lambda: logged(url) >= 3)
        asked = time.monotonic()
        with suspended(postgres.processes()):
            result = finished(process)
        print(f"\nended {time.monotonic() - asked:.0f} s after the servers stopped answering")
        assert time.monotonic() - asked < 200
        assert warnings(result)
        assert table(here / STUDY) == table(undisturbed)
        assert not warnings(run(words, here))
        check_whole(*runs_in(tracking))
    assert trials(with_driver(storage)) == TRIALS


@slow
def test_tables_of_older_versions(
    here: Path, undisturbed: Path, dataset_file: Path, postgres: Postgres
) -> None:
    """Databases that were made by the migrations of an older MLflow and of an older Optuna."""
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from optuna.storages import RDBStorage

    from tal_bench.tracking.mlflow_client import _revisions

    store, storage = with_driver(postgres.url("older-mlflow")), postgres.url("older-trials")
    engine = utils.create_sqlalchemy_engine(store)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = utils._get_alembic_config(store)
        config.attributes["connection"] = connection
        command.upgrade(config, _revisions()[3])
    RDBStorage(with_driver(storage))
    set_optuna_schema(storage, "v3.0.0.d")
    words = study_words(dataset_file, "--jobs", "1", "--tracking-uri", store, "--storage", storage)
    told = warnings(run(words, here))
    assert len(told) == 2
    assert any(
        "older MLflow" in line and f"mlflow db upgrade postgresql+psycopg://…@{HOST}" in line for line in told
    )
    assert any("optuna storage upgrade" in line for line in told)
    assert table(here / STUDY) == table(undisturbed)
    subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", store], check=True)
    set_optuna_schema(storage, "v3.2.0.a")
    assert not warnings(run(words, here))
    check_whole(*runs_in(store))
    assert trials(with_driver(storage)) == TRIALS


def set_optuna_schema(url: str, version: str) -> None:
    """Mark the tables of an Optuna storage as those of a version."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("update alembic_version set version_num = %s", [version])
