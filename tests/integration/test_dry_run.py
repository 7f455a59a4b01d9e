"""The plan of a study before, during and after its runs: what is to be done and what is on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_study import ROWS
from tiny import STUDY, study_words

from tal_bench.cli import main
from tal_bench.results.folder import StudyFolder


def plan_of(dataset: Path, reports: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    words = study_words(dataset, "--reports", str(reports), "--dry-run", "--json", *more)
    assert main([str(word) for word in words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_new_study(dataset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(dataset_file, tmp_path / "reports", capsys)
    assert [row["name"] for row in plan["rows"]] == ROWS
    both = plan["rows"][-1]
    assert (both["kind"], both["teachers"]) == ("student", ["actionformer", "conv"])
    # a trial and a final run of its own, a tuning and a final run of both teachers
    assert (both["trials"], both["seeds"], both["runs"], both["on_disk"]) == (1, 1, 6, 0)
    # rows share the teachers' final runs: 6 for both, 1 for the reference, 2 for none
    assert (plan["runs"], plan["on_disk"], plan["seconds"]) == (9, 0, None)
    assert not (tmp_path / "reports").exists(), "nothing is written"


def test_more_seeds_and_trials_are_more_runs(
    dataset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(dataset_file, tmp_path, capsys, "--seeds", "3", "--trials", "2")
    # students: 2 trials, both confirmed on 2 seeds, 3 finals; 2 tuning runs of teachers, 3 finals of 3 models
    assert plan["runs"] == 2 * (2 + 4 + 3) + 2 + 9


def test_a_finished_study_and_one_that_lacks_runs(
    dataset_file: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / STUDY
    shutil.copytree(undisturbed, folder)
    plan = plan_of(dataset_file, folder.parent, capsys)
    assert plan["on_disk"] == plan["runs"] == len(list(StudyFolder(folder).runs()))
    assert all(row["on_disk"] == row["runs"] for row in plan["rows"])
    assert plan["seconds"] == 0.0
    files = StudyFolder(folder)
    final = next(row for row in files.read_study().rows if row.name == "both").finals[0]
    files.run_file(final).unlink()
    plan = plan_of(dataset_file, folder.parent, capsys)
    assert plan["on_disk"] == plan["runs"] - 1
    assert {row["name"] for row in plan["rows"] if row["on_disk"] < row["runs"]} == {"both"}
    assert plan["seconds"] > 0


def test_as_text(dataset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = study_words(dataset_file, "--reports", str(tmp_path), "--dry-run")
    assert main([str(word) for word in words]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ROWS)
    assert "9 different runs" in shown
    assert "no run on disk to estimate the time from" in shown


def test_json_is_the_plans(dataset_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--dataset", str(dataset_file), "--json"]) == 2
    assert capsys.readouterr().err == "error: --json: prints a plan (add --dry-run)\n"
