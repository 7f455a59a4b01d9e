"""Studies killed at random moments: the same table, nothing done twice, nothing left running.

Slow: `TAL_BENCH_SLOW=1 TAL_BENCH_KILLS=20 TAL_BENCH_KILL_DATASET=sprites
pytest -s tests/integration/test_kills.py` says what it does.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from processes import finished, run, start, still_alive, workers
from test_study import mlflow_runs, table

from tal_bench.results.folder import StudyFolder

KILLS = int(os.environ.get("TAL_BENCH_KILLS", "3"))
DATASET = os.environ.get("TAL_BENCH_KILL_DATASET", "")
pytestmark = pytest.mark.skipif(
    "TAL_BENCH_SLOW" not in os.environ, reason="takes minutes; set TAL_BENCH_SLOW=1"
)


def words(dataset: str | Path, *more: str) -> list[str | Path]:
    return ["ablate", "--dataset", dataset, "--budget", "smoke", "--device", "cpu", *more]


def study_of(folder: Path) -> Path:
    found = list((folder / "reports").glob("two-by-two-*-smoke"))
    return found[0] if found else folder / "none"


def finished_runs(folder: Path) -> dict[str, int]:
    """Runs that finished, by when their record was written."""
    study = StudyFolder(study_of(folder))
    ended = [result.hash for result in study.runs() if result.status == "finished"]
    return {hash_: study.run_file(hash_).stat().st_mtime_ns for hash_ in ended}


def states_in_mlflow(folder: Path) -> tuple[Counter[str], Counter[str], int]:
    """States of the rows' runs and of nested runs, and how many runs are logged twice."""
    parents, children = mlflow_runs(folder)
    logged = [(r.data.tags["tal_bench.row"], r.data.tags["tal_bench.hash"])
              for r in children if "tal_bench.hash" in r.data.tags]  # fmt: skip
    return (
        Counter(r.info.status for r in parents),
        Counter(r.info.status for r in children),
        len(logged) - len(set(logged)),
    )


def wait_for_a_moment(process: subprocess.Popen[str], folder: Path, runs: int, seconds: float) -> float:
    """Wait for so many finished runs, and some seconds more; return how long that was."""
    began = time.monotonic()
    while process.poll() is None and len(list(study_of(folder).glob("runs/*[0-9a-f].json"))) < runs:
        time.sleep(0.02)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    return time.monotonic() - began


def test_random_kills_change_nothing(tmp_path: Path, dataset_file: Path) -> None:
    dataset = DATASET or dataset_file
    whole = tmp_path / "whole"
    started = time.monotonic()
    assert run(words(dataset, "--jobs", "2"), whole).returncode == 0
    took = time.monotonic() - started
    expected, units = table(study_of(whole)), set(finished_runs(whole))
    seed = int(os.environ.get("TAL_BENCH_KILL_SEED", time.time_ns() % 10_000))
    chance = random.Random(seed)
    print(f"\nundisturbed: {took:.0f} s, {len(units)} runs; seed {seed}", flush=True)
    repeated = zombies = twice = 0
    for number in range(KILLS):
        folder = tmp_path / f"killed-{number}"
        command = words(dataset, "--jobs", str(1 + number % 2), "--checkpoint-every", "0")
        process = start(command, folder)
        moment = wait_for_a_moment(process, folder, chance.randint(0, len(units)), chance.uniform(0.0, 2.0))
        if process.poll() is None:
            below = workers(process)
            process.send_signal(signal.SIGKILL)
            assert not still_alive(below), "workers follow their parent"
        finished(process)
        kept = finished_runs(folder)
        begun = len(list((study_of(folder) / "runs").glob("*.resume")))
        result = run(command, folder)
        assert result.returncode == 0, result.stderr
        now = finished_runs(folder)
        assert set(now) == units
        repeated += sum(now[hash_] != when for hash_, when in kept.items())
        assert table(study_of(folder)) == expected
        parents, children, doubled = states_in_mlflow(folder)
        assert parents == {"FINISHED": 5}
        assert not (repeated or children["RUNNING"] or doubled)
        zombies, twice = zombies + children["RUNNING"], twice + doubled
        assert children["FINISHED"] == len(units)
        assert not list(study_of(folder).rglob("*.resume"))
        print(
            f"{number + 1}: killed at {moment:.1f} s with {len(kept)} of {len(units)} runs finished, "
            f"{begun} kept in the middle; same table; children {dict(children)}",
            flush=True,
        )
    print(f"{KILLS} kills: {repeated} finished runs repeated, {zombies} left running, {twice} logged twice")
