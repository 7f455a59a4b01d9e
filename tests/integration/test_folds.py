"""Cross-validation over all folds: every video is tested once, in one table."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import write_dataset

import tal_bench
from tal_bench.cli import main

FOLDS = 2


def ablate(dataset: Path, *more: str) -> int:
    """Carry out the study in this process, and return the exit code."""
    flags = ["--variant", "self", "--student", "conv-dw-primary", "--budget", "smoke", "--device", "cpu"]
    return main(["ablate", "--dataset", str(dataset), *flags, "--tracking-uri", "off", "--jobs", "1", *more])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = write_dataset(tmp_path_factory.mktemp("folds") / "tiny", train=6, test=4)
    value = yaml.safe_load(file.read_text()) | {"folds": FOLDS}
    file.write_text(yaml.safe_dump(value, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def study(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    reports = tmp_path_factory.mktemp("reports")
    assert ablate(dataset, "--folds", "all", "--reports", str(reports)) == 0
    (folder,) = reports.glob("*-folds")
    return folder


def test_every_video_is_tested_once(study: Path, dataset: Path) -> None:
    annotated = json.loads((dataset.parent / "annotations.json").read_text())["database"]
    parts = sorted((study / "folds").glob("*/ground_truth.json"))
    tested = [video for part in parts for video in json.loads(part.read_text())["database"]]
    assert len(parts) == FOLDS
    assert sorted(tested) == sorted(annotated)
    loaded = tal_bench.load_study(study)
    assert loaded.record.test_videos == len(annotated)
    assert f"on all {FOLDS} folds" in loaded.record.evaluation


def test_map_is_that_of_the_detections_of_all_folds(study: Path) -> None:
    loaded = tal_bench.load_study(study)
    for row in loaded.record.rows:
        parts = [tal_bench.load_study(folder) for folder in sorted((study / "folds").iterdir())]
        for seed, hash_ in enumerate(row.finals):
            file = study / "runs" / f"{hash_}.detections.json"
            merged = json.loads(file.read_text())["results"]
            single = {}
            for part in parts:
                (same,) = [r for r in part.record.rows if r.name == row.name]
                name = f"{same.finals[seed]}.detections.json"
                single |= json.loads((part.folder / "runs" / name).read_text())["results"]
            assert merged == single
            found = tal_bench.evaluate(
                study / "ground_truth.json", file, tiou=loaded.record.tiou, subset=None, labels="names"
            )
            assert loaded.table().loc[row.name, "map_avg_mean"] == pytest.approx(100 * found.average)
    assert not loaded.differences().empty


def test_the_same_command_goes_on_with_what_is_there(study: Path, dataset: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in study.rglob("runs/*.safetensors")}
    assert ablate(dataset, "--folds", "all", "--reports", str(study.parent)) == 0
    assert {file: file.stat().st_mtime_ns for file in study.rglob("runs/*.safetensors")} == before


@pytest.mark.parametrize(
    ("folds", "text"), [("7", "has folds 0 to 1"), ("some", "--folds"), ("-1", "--folds")]
)
def test_impossible_folds_are_refused(
    dataset: Path, tmp_path: Path, folds: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(dataset, f"--folds={folds}", "--reports", str(tmp_path)) == 2
    assert text in capsys.readouterr().err


def test_a_dataset_without_folds_is_refused(
    dataset_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(dataset_file, "--folds", "all", "--reports", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "has no folds" in told and "folds: 5" in told


def test_a_plan_counts_the_runs_of_all_folds(
    study: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(folds: str) -> dict[str, Any]:
        assert ablate(dataset, "--folds", folds, "--reports", str(study.parent), "--dry-run", "--json") == 0
        plan: dict[str, Any] = json.loads(capsys.readouterr().out)
        return plan

    one, every = planned("0"), planned("all")
    ended = [file for file in study.glob("folds/*/runs/*.json") if ".detections" not in file.name]
    assert every["runs"] == FOLDS * one["runs"]
    assert (one["on_disk"], every["on_disk"]) == (0, len(ended))
    assert every["folder"] == str(study)


@pytest.mark.skipif("TAL_BENCH_SLOW" not in os.environ, reason="half a minute; set TAL_BENCH_SLOW=1")
def test_a_replaced_table_of_all_folds_is_kept(
    study: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / study.name
    shutil.copytree(study, copy)
    more = ("--folds", "all", "--reports", str(tmp_path), "--seeds", "2")
    assert ablate(dataset, *more, "--dry-run") == 0
    assert "seeds 1 → 2" in capsys.readouterr().out
    assert ablate(dataset, *more) == 0
    (kept,) = (copy / "earlier").iterdir()
    assert (kept / "table.md").read_bytes() == (study / "table.md").read_bytes()
    assert not (kept / "folds").exists()
