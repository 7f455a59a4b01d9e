"""A report without its runs has the tables of its study; `load_results` finds what there is to open."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study
from pandas.testing import assert_frame_equal

from tal_bench import (
    InputError,
    LoadedReport,
    LoadedStudy,
    StudyFolder,
    choose_study,
    load_results,
    load_study,
)
from tal_bench.report.diagnosis.write import write_diagnosis
from tal_bench.report.study.write import write_report

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedStudy, LoadedReport]:
    """A study, and a copy of its report without the runs."""
    folder = tmp_path_factory.mktemp("study")
    rows = tuple(row for row in ROWS if row.name not in ("conv", "actionformer-primary", "conv-dw-primary"))
    write_fake_study(folder, seeds=2, trials=5, videos=6, rows=rows)
    study = load_study(folder)
    with pytest.MonkeyPatch.context() as patch:  # figures take time
        patch.setattr("tal_bench.report.study.figures.FIGURES", [])
        patch.setattr("tal_bench.report.diagnosis.write.FIGURES", [])
        write_report(folder)
        write_diagnosis(study.diagnose(), folder / "diagnosis")
    copy = tmp_path_factory.mktemp("report") / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("study.json", "runs", "costs", "*truth.json"))
    report = load_results(copy)
    assert isinstance(report, LoadedReport)
    return study, report


def test_tables_are_those_of_the_study(both: tuple[LoadedStudy, LoadedReport]) -> None:
    study, report = both
    assert_frame_equal(report.table(), study.table())
    assert_frame_equal(report.costs(), study.costs())
    assert_frame_equal(report.differences(), study.differences())
    assert_frame_equal(report.pairs(), study.pairs())
    assert_frame_equal(report.settings(), study.settings())
    assert_frame_equal(report.runs, study.runs.replace("", float("nan")), check_dtype=False)
    assert report.interaction == study.interaction is not None
    trials, wanted = report.trials(), study.trials()
    assert list(trials) == list(wanted)
    for row, table in trials.items():
        assert_frame_equal(table, wanted[row], check_dtype=False)
    assert_frame_equal(report.importances(), study.importances())


def test_the_diagnosis_is_that_of_the_study(both: tuple[LoadedStudy, LoadedReport]) -> None:
    found, wanted = (opened.diagnose(["actionformer", "none", "both"]) for opened in both[::-1])
    assert found.row_names == wanted.row_names and found.against == wanted.against == "none"
    assert found.compared == wanted.compared == "both"
    pd.testing.assert_frame_equal(found.gain_means(), wanted.gain_means(), atol=1e-4)
    pd.testing.assert_frame_equal(found.group_means("missed"), wanted.group_means("missed"), atol=1e-4)
    pd.testing.assert_frame_equal(found.shares("both"), wanted.shares("both"), atol=1e-4)
    pd.testing.assert_series_equal(found.changes(), wanted.changes(), atol=2e-4)
    with pytest.raises(InputError, match=r"no row 'bth' in the diagnosis \(choose from actionformer"):
        both[1].diagnose(["bth"])


def test_missing_files_give_empty_tables(both: tuple[LoadedStudy, LoadedReport], tmp_path: Path) -> None:
    for name in ("summary.json", "table.csv"):
        shutil.copy(both[1].folder / name, tmp_path)
    report = load_results(tmp_path)
    assert isinstance(report, LoadedReport)
    assert report.runs.empty and report.pairs().empty and report.trials() == {}
    assert report.importances().empty and not report.differences().empty
    with pytest.raises(InputError, match="no diagnosis there"):
        report.diagnose()


def test_published_reports_are_read() -> None:
    for folder in sorted(file.parent for file in (ROOT / "reports" / "published").glob("*/summary.json")):
        report = load_results(folder)
        assert isinstance(report, LoadedReport)
        assert {"none", "both"} <= set(report.table().index) and not report.differences().empty


def test_the_latest_study_is_opened_before_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAL_BENCH_STUDY", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "one.ipynb").write_text("{}")
    for place in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(place)
        with pytest.raises(InputError, match="no study there"):
            load_results()
    published = tmp_path / "reports" / "published" / "two-by-two-sprites"
    published.mkdir(parents=True)
    (published / "summary.json").write_text("{}")
    assert load_results().folder.resolve() == published
    assert "none in reports/ has ended yet" in choose_study().reason
    for day, name in enumerate(("old", "new", "resumed"), 1):
        folder = tmp_path / "reports" / name
        ended = name != "resumed"
        write_fake_study(folder, rows=ROWS[:1], seeds=1, videos=2, trials=0, finished=ended, day=day)
        (folder / "summary.json").write_text("{}")
    assert load_results().folder.resolve() == tmp_path / "reports" / "new"
    monkeypatch.chdir(tmp_path / "reports")
    with pytest.raises(InputError, match="no study there"):
        choose_study()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAL_BENCH_STUDY", "elsewhere")
    with pytest.raises(InputError, match="TAL_BENCH_STUDY=elsewhere: no such folder"):
        load_results()
    monkeypatch.setenv("TAL_BENCH_STUDY", str(tmp_path / "reports" / "old"))
    assert isinstance(load_results(), LoadedStudy) and load_results().folder.name == "old"


def test_smoke_studies_are_opened_only_where_there_are_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAL_BENCH_STUDY", raising=False)
    monkeypatch.chdir(tmp_path)

    def add(name: str, day: int, budget: Literal["smoke", "quick"]) -> None:
        folder = tmp_path / "reports" / name
        write_fake_study(folder, rows=ROWS[:1], seeds=1, videos=2, trials=0, budget=budget, day=day)
        (folder / "summary.json").write_text("{}")

    add("first-smoke", 1, "smoke")
    add("last-smoke", 4, "smoke")
    assert str(choose_study()) == "reports/last-smoke, your study that ended last"
    add("real", 2, "quick")
    assert load_results().folder == choose_study().folder == Path("reports/real")
    left_out = "; ".join(
        f"{name}-smoke is left out: budget smoke is a functional test" for name in ("last", "first")
    )
    assert str(choose_study()) == f"reports/real, your study that ended last; {left_out}"
    add("malformed", 3, "quick")
    (tmp_path / "reports" / "malformed" / "study.json").write_text("{}")
    assert choose_study().folder == Path("reports/real")
    assert "malformed is left out: it cannot be read (" in choose_study().reason


def test_parameters_are_integers(both: tuple[LoadedStudy, LoadedReport]) -> None:
    for opened in both:
        assert opened.table()["params"].dtype == opened.costs()["params"].dtype == "Int64"
        assert "." not in opened.costs()["params"].to_string()
        assert opened.table()["gmacs"].dtype == float


def test_parameters_that_were_not_measured_are_missing(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=ROWS[:2], seeds=1, videos=2, trials=0)
    record = StudyFolder(tmp_path).read_study()
    unmeasured = record.rows[0].model_copy(update={"cost": ""})
    StudyFolder(tmp_path).write_study(record.model_copy(update={"rows": (unmeasured, record.rows[1])}))
    params = load_study(tmp_path).table()["params"]
    assert params.isna().tolist() == [True, False] and params.dtype == "Int64"
