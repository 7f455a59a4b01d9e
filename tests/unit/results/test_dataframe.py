"""`load_runs` on study folders."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_study import ROWS, TIOU, write_fake_study

from tal_bench.errors import InputError
from tal_bench.results.columns import TrainingColumn, column_of_metric
from tal_bench.results.dataframe import row_costs
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import TrainingCost
from tal_bench.tracking.dataframe import load_runs
from tal_bench.tracking.run_data import states

COLUMNS = [
    *(
        "study",
        "dataset",
        "row",
        "kind",
        "variant",
        "student",
        "teacher",
        "modalities",
        "seed",
        "split",
        "status",
    ),
    *(f"map_{t:.2f}" for t in TIOU),
    *("map_avg", "params", "gmacs", "latency_ms", "latency_ms_iqr", "peak_memory_mb", "minute"),
    *("minute_decode", "minute_flow", "minute_backbone", "minute_detector", "minute_with_flow_tvl1"),
    *("train_step_ms", "train_memory_mb", "dropped_params"),
    *("commit", "hash"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports") / "fake"
    write_fake_study(path, failing=("both",))
    return path


def test_columns_and_lines(folder: Path) -> None:
    table = load_runs(folder)
    assert list(table.columns) == COLUMNS
    students = [row for row in ROWS if row.kind == "student"]
    assert len(table) == 3 * len(ROWS) + 2 * len(students)
    assert set(table["split"]) == {"validation", "test"}
    assert (table["split"] == "validation").sum() == 2 * len(students)


def test_values_match_the_files(folder: Path) -> None:
    table = load_runs(str(folder))
    line = table[(table["row"] == "cross-modal") & (table["split"] == "test") & (table["seed"] == 1)].iloc[0]
    files = StudyFolder(folder)
    result = files.read_run(line["hash"])
    assert result is not None
    assert line["map_0.50"] == result.metrics["map_0.50"]
    assert line["variant"] == "cross-modal"
    assert line["teacher"] == "conv"
    assert line["student"] == "conv-dw-hallucinated"
    assert line["minute"] == pytest.approx(2.1 + 9.4 + 0.095)
    assert math.isnan(line["minute_flow"])
    assert line["commit"] == "0123abc"


def test_the_cost_of_a_training_step_is_in_the_table_and_in_mlflow(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path)
    files = StudyFolder(tmp_path)
    cost = TrainingCost(
        key="t", step_ms={"median": 812.4, "iqr": 3.0}, peak_memory_mb=1530.0, dropped_params=262_144,
        batch_size=2, frames=2304, threads=1, device="Fake CPU", precision="fp32",
    )  # fmt: skip
    files.write_cost(cost)
    rows = [row.model_copy(update={"training": "t"}) if row.name == "none" else row for row in record.rows]
    record = record.model_copy(update={"rows": tuple(rows)})
    files.write_study(record)

    table = load_runs(files.path).set_index("row")
    assert (table.loc["none", "dropped_params"] == 262_144).all()
    assert (table.loc["none", "train_step_ms"] == 812.4).all()
    assert table.loc["both", ["train_step_ms", "train_memory_mb"]].isna().all(axis=None)

    logged = row_costs(files, next(row for row in rows if row.name == "none")).logged(())
    assert logged == {
        "cost/train_step_ms": 812.4,
        "cost/train_memory_mb": 1530.0,
        "cost/dropped_params_k": pytest.approx(262.144),
    }
    for name, value in logged.items():
        column = column_of_metric(name)
        assert isinstance(column, TrainingColumn)
        assert column.value(cost) == pytest.approx(value * column.unit_size)
    (none,) = (state for state in states(record, files, "FINISHED") if state.name == "none")
    assert {name: value for name, value, _ in none.metrics if name in logged} == logged


def test_teacher_rows_have_no_variant(folder: Path) -> None:
    table = load_runs(folder).set_index("row")
    assert set(table.loc["conv", "variant"]) == {""}
    assert set(table.loc["both", "teacher"]) == {"actionformer + conv"}
    assert set(table.loc["conv", "minute_flow"]) == {1.2}


def test_failed_and_pruned_runs_have_no_map(folder: Path) -> None:
    table = load_runs(folder)
    assert (table["status"] == "failed").sum() == 1
    assert table.loc[table["status"] != "finished", "map_avg"].isna().all()
    assert table.loc[table["status"] == "finished", "map_avg"].notna().all()


def test_several_studies_below_one_folder(tmp_path: Path) -> None:
    write_fake_study(tmp_path / "a", name="a", rows=ROWS[:1], costs=False)
    write_fake_study(tmp_path / "b", name="b", rows=ROWS[4:6], seeds=2)
    table = load_runs(tmp_path)
    assert table.groupby("study").size().to_dict() == {"a": 3, "b": 8}
    assert table.loc[table["study"] == "a", "params"].isna().all()


def test_a_run_without_a_row_is_read(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, rows=ROWS[:2])
    StudyFolder(tmp_path).write_study(record.model_copy(update={"rows": record.rows[:1], "finished": None}))
    table = load_runs(tmp_path)
    assert len(table) == 6
    assert set(table.loc[table["kind"] == "", "row"]) == {"conv"}


def test_an_unfinished_study_without_runs(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path / "x", rows=())
    assert not record.rows
    table = load_runs(tmp_path / "x")
    assert table.empty
    assert {"study", "map_avg", "minute", "hash"} <= set(table.columns)


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no study\.json"):
        load_runs(tmp_path)


def test_neither_folder_nor_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="neither a folder"):
        load_runs("no-such-study")
    assert not list(tmp_path.iterdir()), "reading must not create a store"


def test_an_invalid_record_is_reported_with_its_file(tmp_path: Path) -> None:
    record = write_fake_study(tmp_path, rows=ROWS[:1])
    file = StudyFolder(tmp_path).run_file(record.rows[0].finals[0])
    file.write_text('{"hash": 1}')
    with pytest.raises(InputError, match=file.name):
        load_runs(tmp_path)


def test_dtypes(folder: Path) -> None:
    table = load_runs(folder)
    numbers = [c for c in COLUMNS if c.startswith(("map_", "minute"))]
    assert all(pd.api.types.is_float_dtype(table[c]) for c in numbers)
    assert pd.api.types.is_integer_dtype(table["seed"])


def test_reading_and_reporting_never_import_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "import tal_bench.report.study.write, tal_bench.tracking.dataframe;"
        f"folder = Path({str(folder)!r});"
        "tal_bench.report.study.write.write_report(folder); tal_bench.tracking.dataframe.load_runs(folder);"
        "from tal_bench.report.study import terminal; import tal_bench.tracking.mirror;"
        "assert 'torch' not in sys.modules, 'torch'; assert 'mlflow' not in sys.modules, 'mlflow'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_importing_the_report_imports_no_pandas_or_matplotlib() -> None:
    code = (
        "import sys, tal_bench.report.study.write;"
        "assert 'pandas' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
