"""`load_study` gives the numbers of the report, and computes intervals only when they are needed."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study
from pandas.testing import assert_frame_equal

from tal_bench import InputError, LoadedStudy, collect, load_runs, load_study, write_report
from tal_bench.report import loaded
from tal_bench.report.diagnosis.summary import AVERAGE

CHOSEN = tuple(row for row in ROWS if row.name in ("actionformer", "none", "self", "both"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study")
    write_fake_study(path, seeds=2, trials=6, rows=CHOSEN, failing=("self",))
    return path


@pytest.fixture(scope="module")
def study(folder: Path) -> LoadedStudy:
    return load_study(str(folder))


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Table that the report of the same study writes."""
    write_report(folder)
    return pd.read_csv(io.StringIO((folder / "table.csv").read_text(encoding="utf-8"))).set_index("row")


def test_runs_are_those_of_load_runs(folder: Path, study: LoadedStudy) -> None:
    assert_frame_equal(study.runs, load_runs(folder))
    assert len(study.runs) == 2 * len(CHOSEN) + 6 * 3


def test_table_and_costs_have_the_numbers_of_the_report(study: LoadedStudy, report: pd.DataFrame) -> None:
    table = study.table()
    assert list(table.index) == ["actionformer", "none", "self", "both"]
    assert {"map_0.30_mean", "map_avg_sd", "params", "minute_with_flow_tvl1"} <= set(table.columns)
    written = report[table.columns].fillna({"teachers": ""})
    assert_frame_equal(table, written, check_dtype=False)
    assert table.loc["self", ["seeds", "seeds_expected"]].tolist() == [1, 2]
    assert_frame_equal(study.costs(), table.loc[:, "params":])  # type: ignore[misc]


def test_differences_have_the_numbers_of_the_report(study: LoadedStudy, report: pd.DataFrame) -> None:
    found = study.differences()
    assert list(found.columns) == ["row", "against", "difference", "low", "high", "clear"]
    assert len(found) == report[["delta_none", "delta_self"]].count().sum() == 5
    for line in found.itertuples():
        written = report.loc[line.row]
        assert line.difference == pytest.approx(written[f"delta_{line.against}"])
        ends = written[f"delta_{line.against}_low"], written[f"delta_{line.against}_high"]
        assert (line.low, line.high) == pytest.approx(ends)
        assert line.clear == (line.low > 0 or line.high < 0)


def test_differences_by_tiou_average_to_the_difference(study: LoadedStudy) -> None:
    means = study.differences_by_tiou().groupby("row", sort=False)["difference"].mean()
    against_none = study.differences().query("against == 'none'").set_index("row")["difference"]
    assert means.to_dict() == pytest.approx(against_none.to_dict())
    assert study.interaction is None  # rows of the interaction are missing


def test_intervals_are_computed_once_and_only_when_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []
    monkeypatch.setattr(loaded, "collect", lambda path: (calls.append(path), collect(path))[1])
    study = load_study(folder)
    for quick in (study.table, study.costs, study.trials, study.settings, study.diagnose):
        quick()
    assert len(study.runs) and study.figures and not calls
    study.differences()
    study.differences_by_tiou()
    assert study.figures["tiou"]() is not None
    assert calls == [folder]


def test_trials_settings_and_importances(study: LoadedStudy) -> None:
    assert list(study.trials()) == list(study.settings().index) == ["none", "self", "both"]
    assert study.trials()["both"]["status"].tolist() == ["finished"] * 5 + ["pruned"]
    assert study.settings()["lr"].tolist() == [1e-3] * 3
    assert study.importances().to_numpy() == pytest.approx(1.0)  # one setting was varied


def test_diagnosis_has_the_average_of_the_table(study: LoadedStudy) -> None:
    found = study.diagnose(["both"], against="none")
    table = study.table()["map_avg_mean"]
    assert found.gain_means()[AVERAGE].to_dict() == pytest.approx(table[["none", "both"]].to_dict())


def test_figures_without_data_are_none(tmp_path: Path) -> None:
    write_fake_study(tmp_path, seeds=1, trials=0, rows=CHOSEN, costs=False)
    study = load_study(tmp_path)
    assert study.costs().isna().all(axis=None) and len(study.costs()) == len(CHOSEN)
    assert study.figures["cost"]() is None
    assert study.figures["figure"]() is not None
    assert study.importances().empty and study.trials() == {}


def test_a_study_without_rows_has_empty_tables(tmp_path: Path) -> None:
    write_fake_study(tmp_path, rows=())
    study = load_study(tmp_path)
    assert study.table().empty and study.differences().empty and study.settings().empty


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="study"):
        load_study(tmp_path)
