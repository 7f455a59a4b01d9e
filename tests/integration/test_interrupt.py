"""Studies that are killed or interrupted go on where they stopped, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from processes import finished, run, start, still_alive, wait_until, workers
from test_study import ROWS, mlflow_runs, table
from tiny import STUDY, study_words

from tal_bench.cli import main
from tal_bench.results.folder import StudyFolder

ALL_RUNS = 9


def ended(folder: Path) -> dict[str, int]:
    """Recorded runs and when they were."""
    return {
        f.name: f.stat().st_mtime_ns
        for f in (folder / STUDY / "runs").glob("*.json")
        if not f.name.endswith(".detections.json")
    }


def test_a_killed_study_goes_on_where_it_stopped(
    tmp_path: Path, dataset_file: Path, undisturbed: Path
) -> None:
    words = study_words(dataset_file, "--jobs", "2")
    kept: dict[str, int] = {}
    for moment in (1, 4):  # when so many runs have ended
        process = start(words, tmp_path)
        wait_until(process, lambda n=moment: len(ended(tmp_path)) >= n)  # type: ignore[misc]
        below = workers(process)
        assert len(below) >= 2
        process.kill()
        finished(process)
        assert not still_alive(below), "workers follow their parent"
        now = ended(tmp_path)
        assert now.items() >= kept.items(), "finished runs are not repeated"
        assert len(now) < ALL_RUNS, "killed in the middle"
        kept = now
        folder = StudyFolder(tmp_path / STUDY)
        assert len(list(folder.runs())) == len(now), "every recorded run is whole"
        assert all(r.status == "finished" for r in folder.runs())
    result = run(words, tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(ended(tmp_path)) == ALL_RUNS
    assert ended(tmp_path).items() >= kept.items()
    assert table(tmp_path / STUDY) == table(undisturbed)

    parents, children = mlflow_runs(tmp_path)
    assert {r.info.status for r in parents} == {"FINISHED"}
    assert sorted(r.info.run_name for r in parents) == sorted(ROWS)
    assert "RUNNING" not in {r.info.status for r in children}
    whole = [r for r in children if r.info.status == "FINISHED"]
    assert {r.data.tags["tal_bench.row"] for r in whole} == set(ROWS)
    pairs = [(r.data.tags["tal_bench.row"], r.data.tags["tal_bench.hash"]) for r in whole]
    assert len(pairs) == len(set(pairs)), "nothing is logged twice"


def test_a_resume_that_is_cut_short_keeps_the_table(
    tmp_path: Path, dataset_file: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / STUDY
    shutil.copytree(undisturbed, folder)
    files = StudyFolder(folder)
    before = table(folder)
    both = next(row for row in files.read_study().rows if row.name == "both")
    files.run_file(both.finals[0]).unlink()
    words = study_words(dataset_file, "--timeout", "0s", "--tracking-uri", "off", "--jobs", "1")
    assert main([*map(str, words), "--reports", str(folder.parent)]) == 0
    assert "time limit reached, missing rows: both" in capsys.readouterr().err
    del before["both"]
    assert table(folder) == before, "what had finished is still there"
    assert files.read_study().finished is None


@pytest.mark.parametrize("moment", ["training", "starting workers"])
def test_ctrl_c_ends_a_study_with_one_line(tmp_path: Path, dataset_file: Path, moment: str) -> None:
    process = start(study_words(dataset_file, "--jobs", "2", "--tracking-uri", "off"), tmp_path)
    if moment == "training":
        wait_until(process, lambda: len(ended(tmp_path)) >= 1)
    else:
        wait_until(process, lambda: len(workers(process)) >= 2)
    below = workers(process)
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to parent and workers alike
    result = finished(process)
    assert time.monotonic() - asked < 30
    assert result.returncode == 130, result.stderr
    told = [line for line in result.stderr.splitlines() if not line.startswith("[")]  # [1/9] ...: a log line
    assert told == ["interrupted; run the same command again to resume"]
    assert "Traceback" not in result.stderr + result.stdout
    assert not still_alive(below)
    assert len(list(StudyFolder(tmp_path / STUDY).runs())) == len(ended(tmp_path))


def test_ctrl_c_in_one_process(tmp_path: Path, dataset_file: Path) -> None:
    process = start(study_words(dataset_file, "--jobs", "1", "--tracking-uri", "off"), tmp_path)
    wait_until(process, lambda: len(ended(tmp_path)) >= 1)
    os.killpg(process.pid, signal.SIGINT)
    result = finished(process)
    assert result.returncode == 130, result.stderr
    assert result.stderr.splitlines()[-1] == "interrupted; run the same command again to resume"
    assert "Traceback" not in result.stderr
    assert len(ended(tmp_path)) < ALL_RUNS
