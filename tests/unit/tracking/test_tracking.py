"""Logging of studies to MLflow: every run once, also after interruptions and failures."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord
from tal_bench.tracking import keys, mlflow_client, run_data, stale_runs
from tal_bench.tracking.dataframe import load_runs
from tal_bench.tracking.mirror import MlflowMirror

SELECTED_ROWS = tuple(row for row in ROWS if row.name in ("conv", "none", "cross-modal"))
RUNS = 3 * 3 + 2 * 2
EXPERIMENT = "fake · sprites"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SQLite file with MLflow's tables. Creating them takes seconds, so the tests copy it."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    MlflowClient(f"sqlite:///{file}").search_experiments()
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "study"


@pytest.fixture
def record(folder: Path) -> StudyRecord:
    return write_fake_study(folder, rows=SELECTED_ROWS, failing=("cross-modal",))


def runs_of(uri: str, name: str = EXPERIMENT) -> tuple[dict[str, Any], list[Any]]:
    """Return the runs of the rows by name, and the nested runs."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    rows = [run for run in runs if run not in nested]
    assert len({run.info.run_name for run in rows}) == len(rows), "one run per row"
    return {run.info.run_name: run for run in rows}, nested


def set_schema(uri: str, age: str) -> str:
    """Give a store the mark of an older, of the current, or of a newer version of MLflow; return the mark."""
    known = mlflow_client._revisions()
    revision = {"older": known[3], "current": known[0], "newer": "0123456789ab"}[age]
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        database.execute("update alembic_version set version_num = ?", [revision])
    return revision


def read_back(uri: str) -> pd.DataFrame:
    order = ["row", "split", "hash"]
    return load_runs(EXPERIMENT, tracking_uri=uri).sort_values(order, ignore_index=True)


def on_disk(folder: Path) -> pd.DataFrame:
    return load_runs(folder).sort_values(["row", "split", "hash"], ignore_index=True)


def test_a_study_is_mirrored_once_and_read_back(uri: str, record: StudyRecord, folder: Path) -> None:
    from mlflow import MlflowClient

    mirror = MlflowMirror(uri)
    mirror.sync(folder)
    mirror.sync(folder)
    table = folder / "table.md"
    table.write_text("| a |")
    mirror.sync(folder, "FINISHED", table="| a |", files=[table])
    MlflowMirror(uri).sync(folder, "FINISHED", table="| a |", files=[table])

    rows, nested = runs_of(uri)
    assert set(rows) == {row.name for row in record.rows}
    assert len(nested) == RUNS
    assert Counter(run.info.status for run in nested) == {"FINISHED": 10, "KILLED": 2, "FAILED": 1}
    for run in nested:
        row = rows[run.data.tags["tal_bench.row"]]
        assert run.data.tags["mlflow.parentRunId"] == row.info.run_id
    names = [run.info.run_name for run in nested]
    assert len(set(names)) == len(names), "run names are unique"
    pd.testing.assert_frame_equal(read_back(uri), on_disk(folder))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment.tags["mlflow.note.content"] == "| a |"
    files = {f.path for f in client.list_artifacts(rows[record.rows[-1].name].info.run_id)}
    assert files == {"table.md", "environment.json"}


def test_rows_compare(uri: str, record: StudyRecord, folder: Path) -> None:
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    rows, _ = runs_of(uri)
    runs = load_runs(folder)
    final = runs[(runs["split"] == "test") & (runs["status"] == "finished")].groupby("row")["map_avg"]
    for name, run in rows.items():
        assert run.data.metrics["mAP/avg"] == pytest.approx(final.mean()[name])
        assert run.data.metrics["mAP/avg_sd"] == pytest.approx(final.std()[name])
        assert run.data.metrics["cost/gmacs"] > 0
        assert {"mAP/tIoU_0.3", "cost/params_M", "cost/latency_ms", "seeds"} <= run.data.metrics.keys()
    of_students = {frozenset(rows[name].data.metrics) for name in ("none", "cross-modal")}
    assert len(of_students) == 1, "the same metric names in every row"
    assert {name: run.info.status for name, run in rows.items()} == {
        "conv": "FINISHED", "none": "FINISHED", "cross-modal": "FAILED",
    }  # fmt: skip
    assert rows["cross-modal"].data.metrics["seeds"] == 2
    assert rows["cross-modal"].data.params["teacher"] == "conv"
    assert rows["none"].data.params["teacher"] == "none"


def test_rows_show_how_far_they_are(uri: str, record: StudyRecord, folder: Path) -> None:
    conv, none, cross = record.rows
    early = record.model_copy(
        update={
            "finished": None,
            "rows": (
                conv.model_copy(update={"finals": (*conv.finals, "missing")}),
                none.model_copy(update={"trials": (), "finals": ()}),
                cross,
            ),
        }
    )
    StudyFolder(folder).write_study(early)
    mirror = MlflowMirror(uri)
    mirror.sync(folder)
    status = {name: run.info.status for name, run in runs_of(uri)[0].items()}
    # a running study tries failed runs again
    assert status == {"conv": "RUNNING", "none": "SCHEDULED", "cross-modal": "RUNNING"}
    StudyFolder(folder).write_study(record)
    before = {run.info.run_id for run in runs_of(uri)[0].values()}
    mirror.sync(folder, "FINISHED", table="table")
    rows, nested = runs_of(uri)
    assert {run.info.run_id for run in rows.values()} == before, "params that become known are added"
    assert {name: run.info.status for name, run in rows.items()} == {
        "conv": "FINISHED", "none": "FINISHED", "cross-modal": "FAILED",
    }  # fmt: skip
    assert len(nested) == RUNS


def test_a_nested_run_holds_params_metrics_tags_and_files(
    uri: str, record: StudyRecord, folder: Path
) -> None:
    from mlflow import MlflowClient

    row = next(r for r in record.rows if r.name == "cross-modal")
    StudyFolder(folder).run_file(row.finals[0], ".safetensors").write_bytes(b"weights")
    MlflowMirror(uri).sync(folder)
    _, children = runs_of(uri)
    child = next(run for run in children if run.data.tags["tal_bench.hash"] == row.finals[0])
    for name, value in {"model": row.model, "variant": "cross-modal", "seed": "0", "teacher": "conv"}.items():
        assert child.data.params[name] == value
    assert child.data.params["temperature"] == "2"
    assert len(child.data.params) < 20, "the rest is in the artifact"
    assert child.info.run_name == "cross-modal · seed 0 · test"
    result = StudyFolder(folder).read_run(row.finals[0])
    assert result is not None
    assert child.data.metrics["mAP/tIoU_0.5"] == pytest.approx(result.metrics["map_0.50"])
    assert child.data.metrics["cost/params_M"] == pytest.approx(19.6)
    assert child.data.metrics["cost/minute_s"] == pytest.approx(11.595)
    assert child.data.tags["tal_bench.kind"] == "student"
    assert child.data.tags["mlflow.source.git.commit"] == "0123abc"
    client = MlflowClient(uri)
    steps = client.get_metric_history(child.info.run_id, "loss/logits")
    assert [m.step for m in steps] == [4, 8, 12]
    files = {f.path for f in client.list_artifacts(child.info.run_id)}
    assert files == {f"{row.finals[0]}{s}" for s in (".json", ".detections.json", ".safetensors")}
    assert child.info.end_time - child.info.start_time == pytest.approx(13_100, abs=1)

    trial = next(run for run in children if run.data.tags["tal_bench.hash"] == row.trials[0])
    history = client.get_metric_history(trial.info.run_id, "validation/mAP")
    assert [(m.step, m.value) for m in history] == [(4, 10.0), (8, 20.0), (12, 30.0)]
    failed = next(run for run in children if run.info.status == "FAILED")
    assert failed.data.tags["tal_bench.reason"] == "loss is not finite at step 17"
    assert "loss is not finite at step 17" in failed.data.tags["mlflow.note.content"]
    pruned = [run for run in children if run.info.status == "KILLED"]
    assert all("pruned" in run.data.tags["tal_bench.reason"] for run in pruned)


def test_runs_that_a_row_no_longer_has_are_deleted(uri: str, record: StudyRecord, folder: Path) -> None:
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    none = next(row for row in record.rows if row.name == "none")
    one_final = none.model_copy(update={"finals": none.finals[:1], "seeds": (0,)})
    rows = tuple(one_final if r.name == "none" else r for r in record.rows)
    StudyFolder(folder).write_study(record.model_copy(update={"rows": rows}))
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    logged = load_runs(EXPERIMENT, tracking_uri=uri)
    assert list(logged[logged["split"] == "test"]["row"]).count("none") == 1
    assert runs_of(uri)[0]["none"].data.metrics["seeds"] == 1


def test_other_settings_make_a_row_anew(uri: str, record: StudyRecord, folder: Path) -> None:
    MlflowMirror(uri).sync(folder)
    rows = tuple(
        r.model_copy(update={"settings": {"lr": 2.0}}) if r.name == "none" else r for r in record.rows
    )
    StudyFolder(folder).write_study(record.model_copy(update={"rows": rows}))
    MlflowMirror(uri).sync(folder)
    logged, nested = runs_of(uri)
    assert logged["none"].data.params["lr"] == "2"
    assert len(nested) == RUNS
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {
        run.info.run_id for run in logged.values()
    }


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_a_study_that_stops_says_so_and_is_resumed(
    uri: str, record: StudyRecord, folder: Path, status: Any
) -> None:
    rows = tuple(r.model_copy(update={"finals": (*r.finals, "missing")}) for r in record.rows)
    StudyFolder(folder).write_study(record.model_copy(update={"rows": rows, "finished": None}))
    mirror = MlflowMirror(uri)
    mirror.sync(folder)
    assert {run.info.status for run in runs_of(uri)[0].values()} == {"RUNNING"}
    mirror.sync(folder, status, "out of luck")
    stopped, _ = runs_of(uri)
    assert {run.info.status for run in stopped.values()} == {status}
    assert stopped["none"].data.tags["tal_bench.reason"] == "out of luck"
    StudyFolder(folder).write_study(record)
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    resumed, nested = runs_of(uri)
    assert resumed["none"].info.run_id == stopped["none"].info.run_id
    assert resumed["none"].info.status == "FINISHED"
    assert not resumed["none"].data.tags["tal_bench.reason"]
    assert len(nested) == RUNS


def test_rows_of_dead_processes_are_ended_by_the_next_study(
    uri: str, record: StudyRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = stale_runs.this_process().split()[0]
    processes = (f"{host} 999999999 1", "elsewhere 999999999 1", stale_runs.this_process())
    row = record.rows[0].model_copy(update={"finals": ("missing",), "trials": ()})
    for number, process in enumerate(processes):
        spec = record.spec.model_copy(update={"name": f"study{number}"})
        StudyFolder(folder).write_study(record.model_copy(update={"spec": spec, "rows": (row,)}))
        with monkeypatch.context() as patch:
            patch.setattr("tal_bench.tracking.mirror.this_process", lambda process=process: process)
            MlflowMirror(uri).sync(folder)
    StudyFolder(folder).write_study(record)
    MlflowMirror(uri).sync(folder)
    status = [runs_of(uri, f"study{n} · sprites")[0][row.name].info.status for n in range(3)]
    assert status == ["KILLED", "RUNNING", "RUNNING"]


def test_a_store_is_created_again_after_an_interrupted_creation(
    record: StudyRecord, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    def killed(engine: Any) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("create table experiments (half integer)")
        raise KeyboardInterrupt

    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(utils, "_initialize_tables", killed)
        MlflowMirror(uri).sync(folder)
    assert not (tmp_path / "new" / "mlflow.db").exists()
    MlflowMirror(uri).sync(folder)
    assert len(runs_of(uri)[1]) == RUNS
    assert [f.name for f in sorted((tmp_path / "new").glob("mlflow.db*"))] == ["mlflow.db"]


def test_costs_measured_later_are_added_to_the_runs(uri: str, folder: Path) -> None:
    write_fake_study(folder, rows=SELECTED_ROWS[:1], costs=False)
    mirror = MlflowMirror(uri)
    mirror.sync(folder)
    before = runs_of(uri)
    assert load_runs(EXPERIMENT, tracking_uri=uri)["gmacs"].isna().all()
    write_fake_study(folder, rows=SELECTED_ROWS[:1])
    mirror.sync(folder, "FINISHED", table="table")
    assert (load_runs(EXPERIMENT, tracking_uri=uri)["gmacs"] == 25.25).all()
    after = runs_of(uri)
    assert {r.info.run_id for r in after[1]} == {r.info.run_id for r in before[1]}, "updated in place"
    assert after[0]["conv"].data.metrics["cost/gmacs"] == 25.25


def test_a_repeated_run_replaces_the_failed_one(uri: str, record: StudyRecord, folder: Path) -> None:
    mirror = MlflowMirror(uri)
    mirror.sync(folder)
    write_fake_study(folder, rows=SELECTED_ROWS)
    mirror.sync(folder)
    mirror.sync(folder, "FINISHED", table="table")
    table = load_runs(EXPERIMENT, tracking_uri=uri)
    assert len(table) == RUNS
    assert set(table["status"]) == {"finished", "pruned"}
    assert runs_of(uri)[0]["cross-modal"].info.status == "FINISHED"


def test_studies_have_separate_experiments(uri: str, record: StudyRecord, folder: Path) -> None:
    from mlflow import MlflowClient

    files = StudyFolder(folder)
    smoke = record.spec.model_copy(update={"budget": "smoke"})
    for changes in ({}, {}, {"id": "other"}, {"spec": smoke}):
        files.write_study(record.model_copy(update=changes))
        MlflowMirror(uri).sync(folder)
    names = {experiment.name for experiment in MlflowClient(uri).search_experiments()} - {"Default"}
    assert names == {EXPERIMENT, f"{EXPERIMENT} · other", f"{EXPERIMENT} · smoke"}
    for name in names:
        assert len(runs_of(uri, name)[1]) == RUNS


def test_a_rejected_run_costs_only_itself(
    uri: str,
    record: StudyRecord,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keys, "plain", lambda name: name)
    files = StudyFolder(folder)
    bad = files.read_run(next(row for row in record.rows if row.name == "none").finals[0])
    assert bad is not None
    files.write_run(bad.model_copy(update={"per_class": {"a//b": 1.0}}))  # no valid name of a metric
    mirror = MlflowMirror(uri)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            mirror.sync(folder)
        mirror.sync(folder, "FINISHED", table="| a |")
    warnings = [r for r in caplog.records if r.name.startswith("tal_bench")]
    assert len(warnings) == 1
    assert "MLflow rejected the run none · seed 0 · test" in warnings[0].getMessage()
    rows, nested = runs_of(uri)
    assert rows["none"].info.status == "FINISHED"
    assert len(nested) == RUNS - 1, "only the rejected one is missing"


def test_teachers_without_a_row_are_below_the_row_that_learns_from_them(
    uri: str, record: StudyRecord, folder: Path
) -> None:
    files = StudyFolder(folder)
    conv = next(row for row in record.rows if row.name == "conv")
    others = tuple(row for row in record.rows if row.name != "conv")
    files.write_study(record.model_copy(update={"rows": others}))
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    rows, nested = runs_of(uri)
    teachers = [run for run in nested if run.data.tags["tal_bench.hash"] in conv.finals]
    assert len(teachers) == len(conv.finals)
    assert {run.data.tags["mlflow.parentRunId"] for run in teachers} == {rows["cross-modal"].info.run_id}
    assert len(nested) == RUNS


def test_a_resumed_study_writes_nothing_anew(uri: str, record: StudyRecord, folder: Path) -> None:
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    before = {run.info.run_id for run in runs_of(uri)[1]}
    StudyFolder(folder).write_study(record.model_copy(update={"finished": None}))
    again = MlflowMirror(uri)
    again.sync(folder)
    again.sync(folder, "FINISHED", table="table")
    assert {run.info.run_id for run in runs_of(uri)[1]} == before


def test_an_interrupted_write_is_completed(
    uri: str, record: StudyRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever request the process is killed at, the next call makes the experiment whole."""
    from mlflow import MlflowClient

    real = MlflowClient.log_batch
    for allowed in (0, 1, 4, 7, 11):
        calls = Counter[str]()

        def dying(*args: Any, allowed: int = allowed, calls: Counter[str] = calls, **more: Any) -> None:
            calls["n"] += 1
            if calls["n"] > allowed:
                raise KeyboardInterrupt
            real(*args, **more)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(MlflowClient, "log_batch", dying)
            MlflowMirror(uri).sync(folder)
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    rows, nested = runs_of(uri)
    assert (len(rows), len(nested)) == (3, RUNS)
    pd.testing.assert_frame_equal(read_back(uri), on_disk(folder))


def test_runs_missed_by_a_broken_server_are_sent_later(
    uri: str, record: StudyRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever request fails, before or after it has been carried out, nothing is missing or double."""
    from mlflow import MlflowClient

    for request in ("create_run", "log_batch", "log_inputs", "log_artifact", "set_terminated"):
        for carried_out in (False, True):
            real, calls = getattr(MlflowClient, request), Counter[str]()

            def broken(
                *args: Any, real: Any = real, calls: Any = calls, after: bool = carried_out, **more: Any
            ) -> Any:
                calls["n"] += 1
                if calls["n"] == 2 and after:
                    real(*args, **more)
                if calls["n"] >= 2:
                    raise ConnectionError("server went away")
                return real(*args, **more)

            with monkeypatch.context() as patch, pytest.raises(ConnectionError):
                patch.setattr(MlflowClient, request, broken)
                MlflowMirror(uri).sync(folder)
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    rows, nested = runs_of(uri)
    assert (len(rows), len(nested)) == (3, RUNS)
    assert "RUNNING" not in {run.info.status for run in (*rows.values(), *nested)}
    assert all(len(run.inputs.dataset_inputs) == 1 for run in (*rows.values(), *nested))
    pd.testing.assert_frame_equal(read_back(uri), on_disk(folder))


def test_runs_that_a_server_has_twice_are_made_one(uri: str, record: StudyRecord, folder: Path) -> None:
    """A server that died before its answer gets the same request again, and then has two runs."""
    from mlflow import MlflowClient

    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    client, (rows, nested) = MlflowClient(uri), runs_of(uri)
    for run in (rows["none"], nested[0]):
        client.create_run(run.info.experiment_id, tags=run.data.tags)
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    rows, nested = runs_of(uri)
    assert (len(rows), len(nested)) == (3, RUNS)
    assert "RUNNING" not in {run.info.status for run in (*rows.values(), *nested)}


def test_a_sync_without_news_sends_nothing(
    uri: str, record: StudyRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    MlflowMirror(uri).sync(folder, "FINISHED")
    for request in ("create_run", "delete_run", "log_batch", "log_inputs", "log_artifact", "set_terminated"):
        monkeypatch.setattr(MlflowClient, request, lambda *_, **__: pytest.fail("nothing is new"))
    MlflowMirror(uri).sync(folder, "FINISHED")


@pytest.mark.parametrize("age", ["older", "newer"])
def test_a_database_of_another_version_is_left_as_it_is(
    uri: str, record: StudyRecord, folder: Path, age: str
) -> None:
    revision = set_schema(uri, age)
    upgrade = f"mlflow db upgrade {uri}"
    advice = (
        f"back it up, then run: {upgrade}" if age == "older" else f"pip install --upgrade mlflow && {upgrade}"
    )
    with pytest.raises(InputError, match=f"a database of an? {age} MLflow than the installed") as error:
        MlflowMirror(uri).sync(folder)
    assert str(error.value).endswith(f"{advice})")
    with pytest.raises(InputError, match=f"{age} MLflow"):
        load_runs(EXPERIMENT, tracking_uri=uri)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        assert database.execute("select version_num from alembic_version").fetchall() == [(revision,)]
    set_schema(uri, "current")
    MlflowMirror(uri).sync(folder)
    assert len(runs_of(uri)[1]) == RUNS


def monitors() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


@pytest.mark.parametrize("available", [True, False])
def test_the_load_of_the_machine_is_logged_until_the_study_stops(
    uri: str, record: StudyRecord, folder: Path, monkeypatch: pytest.MonkeyPatch, available: bool
) -> None:
    rows = tuple(r.model_copy(update={"finals": (*r.finals, "missing")}) for r in record.rows)
    StudyFolder(folder).write_study(record.model_copy(update={"rows": rows, "finished": None}))
    mirror = MlflowMirror(uri, system_metrics=True)
    for _ in range(2):
        mirror.sync(folder)
        assert len(monitors()) == 1
    if not available:
        monkeypatch.setattr(mlflow_client, "connect", lambda uri: pytest.fail("no server"))
    with suppress(pytest.fail.Exception):
        mirror.sync(folder, "KILLED", "interrupted")
    assert not monitors()


def test_an_unreachable_server(record: StudyRecord, folder: Path) -> None:
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        MlflowMirror("http://127.0.0.1:9").sync(folder)


@pytest.mark.parametrize("store", ["file:///somewhere", "./mlruns", "mlruns"])
def test_folders_are_refused_with_a_hint(store: str) -> None:
    with pytest.raises(InputError, match="sqlite"):
        MlflowMirror(store)


def test_tracking_can_be_off(record: StudyRecord, folder: Path, tmp_path: Path) -> None:
    mirror = MlflowMirror("off")
    mirror.sync(folder)
    mirror.sync(folder, "FINISHED", table="table")
    assert [p.name for p in tmp_path.iterdir()] == ["study"]


def test_an_unknown_experiment_lists_the_known_ones(uri: str) -> None:
    with pytest.raises(InputError, match="Default"):
        load_runs("nothing", tracking_uri=uri)


def test_names_and_notes_are_valid_for_mlflow() -> None:
    assert run_data.metric_name("map_0.55") == "mAP/tIoU_0.55"
    assert keys.plain("a@b=(c)") == "a_b__c_"
    lines = "\n".join("x" * 99 for _ in range(200))
    text = run_data.note(lines, run_data.RUN_NOTE_LIMIT)
    assert len(text) < 8000
    assert text.splitlines()[-3] == "x" * 99


def test_names_that_mlflow_cannot_tell_apart_have_keys_of_their_own(
    folder: Path, record: StudyRecord
) -> None:
    assert keys.distinct_keys(["a(b", "c"]) == {"a(b": "a_b", "c": "c"}
    found = keys.distinct_keys(["a(b", "a)b", "a_b", "x" * 260 + "(", "x" * 260 + ")"])
    assert len(set(found.values())) == 5 and found["a_b"] == "a_b"
    assert all(keys.plain(key) == key for key in found.values())
    result = StudyFolder(folder).read_run(record.rows[0].finals[0])
    assert result is not None
    classes = {"throw (disc)": 1.0, "throw [disc]": 2.0}
    logged = run_data.metrics(result.model_copy(update={"per_class": classes}))
    assert {value for name, value, _ in logged if name.startswith("per_class/")} == {1.0, 2.0}
    assert len({(name, step) for name, _, step in logged}) == len(logged)


def registrable(folder: Path, record: StudyRecord) -> StudyRecord:
    """Add weights on disk and the chosen trial of each row, as registration needs them."""
    files = StudyFolder(folder)
    rows = tuple(r.model_copy(update={"chosen": r.trials[0] if r.trials else ""}) for r in record.rows)
    for row in rows:
        for hash_ in row.finals:
            files.run_file(hash_, ".safetensors").write_bytes(b"weights")
    record = record.model_copy(update={"rows": rows})
    files.write_study(record)
    return record


def test_the_best_student_on_validation_is_registered_once(
    uri: str, record: StudyRecord, folder: Path
) -> None:
    from mlflow import MlflowClient

    record, files = registrable(folder, record), StudyFolder(folder)
    best = next(row for row in record.rows if row.name == "cross-modal")
    tuned = files.read_run(best.chosen)
    assert tuned is not None
    files.write_run(tuned.model_copy(update={"metrics": tuned.metrics | {"map_avg": 99.0}}))
    for _ in range(2):
        MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    client = MlflowClient(uri)
    (model,) = client.search_registered_models()
    (version,) = client.search_model_versions(f"name = '{model.name}'")
    assert version.tags["row"] == "cross-modal"
    assert version.tags["hash"] == best.finals[0]
    assert version.tags["mAP_validation"] == "99.00"
    assert float(version.tags["gmacs"]) == pytest.approx(39.7)
    assert "gmacs: 39.7" in version.description
    assert client.get_model_version_by_alias(model.name, "fake").version == version.version
    assert Path(client.get_model_version_download_uri(model.name, version.version)).name == (
        f"{best.finals[0]}.safetensors"
    )


@pytest.mark.parametrize("why", ["disabled", "smoke", "unfinished"])
def test_some_students_are_not_registered(uri: str, record: StudyRecord, folder: Path, why: str) -> None:
    from mlflow import MlflowClient

    record = registrable(folder, record)
    if why == "smoke":
        record = record.model_copy(update={"spec": record.spec.model_copy(update={"budget": "smoke"})})
    if why == "unfinished":
        record = record.model_copy(update={"finished": None})
    StudyFolder(folder).write_study(record)
    MlflowMirror(uri, register=why != "disabled").sync(folder, "FINISHED", table="table")
    assert not MlflowClient(uri).search_registered_models()


def test_the_dataset_is_an_input_of_every_run(uri: str, record: StudyRecord, folder: Path) -> None:
    MlflowMirror(uri).sync(folder, "FINISHED", table="table")
    rows, nested = runs_of(uri)
    contexts = Counter[str]()
    for run in (*rows.values(), *nested):
        (used_dataset,) = run.inputs.dataset_inputs
        assert (used_dataset.dataset.name, used_dataset.dataset.digest) == ("sprites", "f" * 16)
        contexts[used_dataset.tags[0].value] += 1
    assert contexts == {"tuning": 4, "final": 9 + 3}


def test_runs_on_labels_have_the_parameters_of_distilled_ones(
    uri: str, record: StudyRecord, folder: Path
) -> None:
    MlflowMirror(uri).sync(folder)
    _, nested = runs_of(uri)
    plain = next(r for r in nested if r.data.tags["tal_bench.row"] == "none")
    assert (plain.data.params["teacher"], plain.data.params["soft_weight"]) == ("none", "0")
