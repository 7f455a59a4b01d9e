"""Whole studies through the command line, on a dataset of ten small videos."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from processes import run
from tiny import STUDY, study_words, write_dataset

from tal_bench.cli import main
from tal_bench.results.folder import StudyFolder
from tal_bench.tracking.dataframe import load_runs

ROWS = ["actionformer", "conv", "conv-dw-primary", "none", "both"]
PLUGIN = '''
from tal_bench.config import TermUse
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.config import Range
from tal_bench.distill.variants import TeacherRef, Variant, variants
from tal_bench.models.registry import Model, students


def stem_sum(student, teacher, temperature):
    """Means over channels agree."""
    difference = (student.stem.mean(dim=1) - teacher.stem.mean(dim=1)).square() * student.mask[0]
    return difference.sum() / student.mask[0].sum()


terms.add("my-term", Term("my-term", stem_sum, Range(low=0.1, high=10.0), "stems on average"))
students.add(
    "my-student",
    Model("my-student", "conv", "hallucinated", overrides={"width": 32, "head_width": 32}, summary="mine"),
)
variants.add(
    "mine",
    Variant(
        "mine",
        "my own",
        teachers={"t": TeacherRef("teacher", "all")},
        terms=(TermUse(name="my-term", teacher="t", weight=1), TermUse(name="stem", teacher="t", weight=1)),
    ),
)
'''


def table(folder: Path) -> dict[str, dict[str, str]]:
    """Row to what it says of accuracy; costs differ from time to time."""
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        row["row"]: {
            k: v for k, v in row.items() if k.startswith(("map_", "delta_", "seeds", "settings", "params"))
        }
        for row in rows
    }


def times(folder: Path) -> dict[str, int]:
    return {f.name: f.stat().st_mtime_ns for f in (folder / "runs").iterdir()}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def done(here: Path, dataset_file: Path) -> Path:
    """The folder of a study that was run from the start with two jobs."""
    result = run(study_words(dataset_file, "--jobs", "2"), here)
    assert result.returncode == 0, result.stderr
    assert "both" in result.stdout
    assert "Traceback" not in result.stderr
    return here / STUDY


def test_a_study_writes_what_it_promises(done: Path) -> None:
    names = {f.name for f in done.iterdir()}
    assert {"table.md", "table.csv", "table.tex", "study.json", "ground_truth.json", "runs", "costs"} <= names
    assert any(name.startswith("figure") for name in names)
    record = StudyFolder(done).read_study()
    assert record.finished
    assert [row.name for row in record.rows] == ROWS == list(table(done))
    assert "--variant both" in record.command
    for row in record.rows:
        assert row.cost
        assert StudyFolder(done).read_cost(row.cost) is not None
        for hash_ in row.finals:
            assert all(
                StudyFolder(done).run_file(hash_, s).is_file()
                for s in (".json", ".safetensors", ".detections.json")
            )
    assert not list(done.rglob(".*")), "no temporary files are left"
    assert {row["seeds"] for row in table(done).values()} == {"1"}


def test_results_load_as_a_table(done: Path) -> None:
    frame = load_runs(done)
    assert len(frame) == 9
    assert frame["map_avg"].notna().all()


def mlflow_runs(here: Path) -> tuple[list[Any], list[Any]]:
    """Runs of rows, and nested runs, of all studies tracked in a directory."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{here / 'mlflow.db'}")
    every = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000)
    children = [r for r in every if "mlflow.parentRunId" in r.data.tags]
    return [r for r in every if r not in children], children


def test_a_study_is_tracked(here: Path, done: Path) -> None:
    rows, children = mlflow_runs(here)
    assert {r.info.run_name for r in rows} == set(ROWS)
    ids = {r.info.run_id: r.info.run_name for r in rows}
    assert all(ids[r.data.tags["mlflow.parentRunId"]] == r.data.tags["tal_bench.row"] for r in children)
    assert {r.info.status for r in (*rows, *children)} == {"FINISHED"}
    assert {r.data.tags["tal_bench.row"] for r in children} == set(ROWS)
    assert all({"mAP/avg", "cost/gmacs"} <= r.data.metrics.keys() for r in rows)


def test_the_second_call_computes_nothing(here: Path, done: Path, dataset_file: Path) -> None:
    before, rows = times(done), table(done)
    costs = {f.name: f.stat().st_mtime_ns for f in (done / "costs").iterdir()}
    parents, children = mlflow_runs(here)
    result = run(study_words(dataset_file, "--jobs", "2"), here)
    assert result.returncode == 0, result.stderr
    assert times(done) == before
    assert table(done) == rows
    assert {f.name: f.stat().st_mtime_ns for f in (done / "costs").iterdir()} == costs
    again = mlflow_runs(here)
    assert [len(x) for x in again] == [len(parents), len(children)]


def test_one_process_gives_the_same_table(done: Path, undisturbed: Path) -> None:
    assert table(undisturbed) == table(done)


def test_the_report_needs_nothing_but_the_results(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / done.name
    shutil.copytree(done, copied)
    tables = {name: (copied / name).read_text() for name in ("table.md", "table.csv", "table.tex")}
    for name in tables:
        (copied / name).unlink()
    for file in (copied / "runs").glob("*.safetensors"):
        file.unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(copied)]) == 0
    assert "both" in capsys.readouterr().out
    assert {name: (copied / name).read_text() for name in tables} == tables
    assert not (tmp_path / "mlflow.db").exists()


def test_own_data_and_own_declarations(tmp_path: Path) -> None:
    """Two primary streams, other names, a plugin's student, term and variant, in worker processes, too."""
    streams: Any = {"acc": ("primary", 5), "gyro": ("primary", 4), "camera": ("privileged", 7)}
    dataset = write_dataset(tmp_path / "my data", streams)
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    words = ["ablate", "--dataset", dataset, "--student", "my-student", "--variant", "mine",
             "--budget", "smoke", "--device", "cpu", "--jobs", "2", "--tracking-uri", "off",
             "--plugin", plugin]  # fmt: skip
    result = run(words, tmp_path)
    assert result.returncode == 0, result.stderr
    folder = StudyFolder(tmp_path / "reports" / "two-by-two-my data-my-student-smoke")
    rows = {row.name: row for row in folder.read_study().rows}
    assert rows.keys() == {"actionformer", "conv-primary", "none", "mine"}
    assert rows["mine"].modalities == "acc + gyro"
    assert rows["actionformer"].modalities == "acc + gyro + camera"
    (final,) = rows["mine"].finals
    run_ = folder.read_run(final)
    assert run_ is not None
    assert run_.status == "finished"
    assert run_.spec.detector.width == 32
    assert "my-term" in run_.history[-1].losses
    assert "mine" in result.stdout


def test_train(dataset_file: Path, tmp_path: Path) -> None:
    words = ["train", "conv-dw-hallucinated", "--dataset", dataset_file, "--variant", "cross-modal",
             "--budget", "smoke", "--device", "cpu"]  # fmt: skip
    result = run(words, tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^map_avg +\d+\.\d\d$", result.stdout, re.MULTILINE)
    kept = [
        json.loads(f.read_text())
        for f in (tmp_path / "reports" / "train-tiny" / "runs").glob("*.json")
        if not f.name.endswith(".detections.json")
    ]
    assert {k["spec"]["model"] for k in kept} == {"conv-dw", "conv-dw-hallucinated"}
    assert {k["status"] for k in kept} == {"finished"}


def test_a_student_that_does_not_fit_is_refused_before_anything_is_written(
    dataset_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*map(str, study_words(dataset_file)), "--student", "conv-dw-primary"]
    assert main(words) == 2
    assert "does not hallucinate the inputs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
