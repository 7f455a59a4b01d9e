"""Order of the studies of all folds, failed rows, and the time limit."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from fake_study import ROWS, write_fake_study
from tiny import write_dataset

from tal_bench.config import StudySpec
from tal_bench.errors import TalBenchError
from tal_bench.results.folder import StudyFolder
from tal_bench.studies.ablate import ExecutionOptions
from tal_bench.tracking.run_data import experiment_name

module = importlib.import_module("tal_bench.studies.ablate")
"""The module, whose name in the package is that of its function."""
FOLDS = 3


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    file = write_dataset(tmp_path / "tiny")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"folds": FOLDS}))
    return StudySpec(name="study", dataset=str(file), variants=("both",), folds="all", device="cpu")


class Folds:
    """Stands for `ablate` of a fold, which takes seconds, and may fail or be out of time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.0, failing: int = -1) -> None:
        self.now, self.seconds, self.failing = 0.0, seconds, failing
        self.limits: list[float | None] = []
        self.merged: list[Path] = []
        self.one = module.ablate
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "ablate", self)
        monkeypatch.setattr(module, "merge_folds", lambda parts, *rest: self.merged.extend(parts))
        monkeypatch.setattr(module, "write_report", lambda *rest: [])
        monkeypatch.setattr(module, "collect", lambda folder: None)
        monkeypatch.setattr(module, "print_study", lambda table: None)

    def __call__(self, study: StudySpec, options: ExecutionOptions, places: object) -> Path:
        folder = options.reports / f"study-tiny-fold{study.folds}"
        self.limits.append(options.timeout)
        in_time = options.timeout is None or self.seconds < options.timeout
        self.now += self.seconds
        record = write_fake_study(folder, rows=ROWS)
        ended = "2026-01-01T00:00:00+00:00" if in_time else None
        StudyFolder(folder).write_study(record.model_copy(update={"finished": ended}))
        if study.folds == self.failing:
            raise TalBenchError("1 row failed: both")
        return folder


def test_the_time_limit_is_that_of_all_folds(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = Folds(monkeypatch, seconds=40.0)
    folds.one(spec, ExecutionOptions(reports=tmp_path, timeout=100.0, tracking_uri="off"))
    assert folds.limits == [100.0, 60.0, 20.0]
    assert not folds.merged
    assert "time limit reached in fold 3 of 3" in capsys.readouterr().err


def test_failed_rows_of_a_fold_do_not_stop_the_others(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = Folds(monkeypatch, failing=0)
    with pytest.raises(TalBenchError, match="fold 1: 1 row failed: both") as error:
        folds.one(spec, ExecutionOptions(reports=tmp_path, tracking_uri="off"))
    assert error.value.exit_code == 1
    assert len(folds.merged) == FOLDS


def test_studies_of_folds_have_different_names_in_mlflow(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, rows=ROWS)
    whole = record.spec.model_dump()
    names = {
        experiment_name(record.model_copy(update={"spec": StudySpec(**{**whole, "folds": fold})}))
        for fold in (None, 0, 1)
    }
    assert len(names) == 3
