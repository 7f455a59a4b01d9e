"""The same study wherever it is computed, and whatever dies beside it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from processes import finished, run, start, wait_until
from servers import Postgres, dask_cluster, mlflow_server
from test_interrupt import ALL_RUNS, ended
from test_study import ROWS, table
from tiny import STUDY, study_words

slow = pytest.mark.skipif("TAL_BENCH_SLOW" not in os.environ, reason="takes minutes; set TAL_BENCH_SLOW=1")
VICTIM = 3
"""Number of runs that are begun before the one whose worker is killed."""
TRACE = f"""
import os, time
from pathlib import Path
from tal_bench.studies import run

finish = run._Attempt.finish


def traced(self):
    log = Path(__file__).with_suffix(".log")
    line = f"{{self.spec.hash}} {{os.getpid()}}"
    with log.open("a") as file:
        file.write(line + "\\n")
    if log.read_text().splitlines().index(line) == {VICTIM}:
        time.sleep(600)
    return finish(self)


run._Attempt.finish = traced
"""
"""A plugin that writes down which process begins which run; one of them waits to be killed."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "trace.py"
    file.write_text(TRACE, encoding="utf-8")
    return file


def begun(plugin: Path) -> list[tuple[str, int]]:
    """Runs in the order in which they were begun, and by which process."""
    file = plugin.with_suffix(".log")
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def kill_worker(process: Any, plugin: Path) -> str:
    """Kill the process that waits for it; return its run."""
    wait_until(process, lambda: len(begun(plugin)) > VICTIM)
    hash_, pid = begun(plugin)[VICTIM]
    os.kill(pid, signal.SIGKILL)
    return hash_


def trials(url: str) -> dict[str, list[str]]:
    """Row to the states of its trials."""
    import optuna

    return {
        study.study_name.split("/")[1]: [trial.state.name for trial in study.trials]
        for study in (
            optuna.load_study(study_name=found.study_name, storage=url)
            for found in optuna.get_all_study_summaries(url)
        )
    }


def with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_a_killed_worker_costs_its_run_alone(
    tmp_path: Path, dataset_file: Path, undisturbed: Path, plugin: Path
) -> None:
    words = study_words(dataset_file, "--jobs", "2", "--tracking-uri", "off", "--plugin", str(plugin))
    process = start(words, tmp_path)
    victim = kill_worker(process, plugin)
    result = finished(process)
    assert result.returncode == 0, result.stderr
    assert table(tmp_path / STUDY) == table(undisturbed)
    times = Counter(hash_ for hash_, _ in begun(plugin))
    assert len(times) == ALL_RUNS
    assert {hash_: n for hash_, n in times.items() if n > 1} == {victim: 2}


def test_dask_and_postgresql_give_the_same_table(
    tmp_path: Path, dataset_file: Path, undisturbed: Path, postgres: Postgres
) -> None:
    pytest.importorskip("distributed")
    storage = postgres.url("simple")
    more = ("--jobs", "2", "--scheduler", "local", "--storage", storage, "--tracking-uri", "off")
    result = run(study_words(dataset_file, *more), tmp_path)
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stderr.splitlines() if not line.startswith(("[", "measuring", "report"))]
    assert not told, "Dask and Optuna say nothing"
    assert table(tmp_path / STUDY) == table(undisturbed)
    assert trials(with_driver(storage)) == {"none": ["COMPLETE"], "both": ["COMPLETE"]}
    assert not (tmp_path / STUDY / "optuna.journal").exists()


@slow
def test_a_cluster_whose_worker_and_database_die(
    tmp_path: Path, dataset_file: Path, undisturbed: Path, plugin: Path, postgres: Postgres
) -> None:
    """Dask's own scheduler and workers, an MLflow server and Optuna in one PostgreSQL, which restarts."""
    from mlflow import MlflowClient

    storage, store = postgres.url("trials"), with_driver(postgres.url("mlflow"))
    with dask_cluster(tmp_path, 2) as (address, _), mlflow_server(tmp_path, store) as tracking:
        more = ("--scheduler", address, "--storage", storage, "--tracking-uri", tracking)
        process = start(study_words(dataset_file, *more, "--plugin", str(plugin)), tmp_path)
        victim = kill_worker(process, plugin)
        wait_until(process, lambda: len(ended(tmp_path)) >= 3)
        postgres.stop()
        wait_until(process, lambda: len(ended(tmp_path)) >= 6)
        postgres.start()
        result = finished(process)
        assert result.returncode == 0, result.stderr
        assert table(tmp_path / STUDY) == table(undisturbed)
        times = Counter(hash_ for hash_, _ in begun(plugin))
        assert len(times) == ALL_RUNS
        assert {hash_: n for hash_, n in times.items() if n > 1} == {victim: 2}
        assert trials(with_driver(storage)) == {"none": ["COMPLETE"], "both": ["COMPLETE"]}

        client = MlflowClient(tracking)
        ids = [e.experiment_id for e in client.search_experiments()]
        every = list(client.search_runs(ids, max_results=1000))
        assert not [r for r in every if r.info.status == "RUNNING"]
        whole = [r for r in every if "tal_bench.hash" in r.data.tags]
        assert len(whole) == ALL_RUNS
        assert {r.data.tags["tal_bench.row"] for r in whole} == set(ROWS)
        artifacts = {f.path for r in whole for f in client.list_artifacts(r.info.run_id)}
        assert len([path for path in artifacts if path.endswith(".safetensors")]) > 5


@slow
def test_ctrl_c_with_dask(tmp_path: Path, dataset_file: Path) -> None:
    pytest.importorskip("distributed")
    more = ("--jobs", "2", "--scheduler", "local", "--tracking-uri", "off")
    process = start(study_words(dataset_file, *more), tmp_path)
    wait_until(process, lambda: len(ended(tmp_path)) >= 1)
    below = psutil.Process(process.pid).children(recursive=True)
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)
    assert time.monotonic() - asked < 30
    assert result.returncode == 130, result.stderr
    told = [line for line in result.stderr.splitlines() if not line.startswith("[")]
    assert told == ["interrupted; run the same command again to resume"]
    assert not psutil.wait_procs(below, timeout=20)[1]
