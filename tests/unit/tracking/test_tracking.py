"""Logging of studies to MLflow: every run once, also after interruptions and failures."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_study import ROWS, write_fake_study

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord
from tal_bench.system import retry
from tal_bench.tracking import run_data, stale_runs
from tal_bench.tracking.dataframe import load_runs
from tal_bench.tracking.tracker import Tracker

SELECTED_ROWS = tuple(row for row in ROWS if row.name in ("conv", "none", "cross-modal"))
RUNS = 3 * 3 + 2 * 2


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


def runs_of(uri: str) -> tuple[list[Any], list[Any]]:
    """Return the parent and the child runs."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tal-bench")
    runs = list(client.search_runs([experiment.experiment_id], max_results=1000))
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children


def log_all(tracker: Tracker, record: StudyRecord, folder: Path) -> None:
    files = StudyFolder(folder)
    for row in record.rows:
        for hash_ in (*row.trials, *row.finals):
            result = files.read_run(hash_)
            assert result is not None
            tracker.log(result, row)


def test_a_study_is_logged_once_and_read_back(uri: str, record: StudyRecord, folder: Path) -> None:
    tracker = Tracker(uri)
    tracker.study(record.model_copy(update={"rows": ()}), folder)
    log_all(tracker, record, folder)
    log_all(tracker, record, folder)
    table = folder / "table.md"
    table.write_text("| a |")
    tracker.finish(record, "| a |", [table])

    (parent,), children = runs_of(uri)
    assert len(children) == RUNS
    assert Counter(run.info.status for run in children) == {"FINISHED": 10, "KILLED": 2, "FAILED": 1}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["mlflow.note.content"] == "| a |"
    expected = load_runs(folder)
    mean = expected[(expected["row"] == "none") & (expected["split"] == "test")]["map_avg"].mean()
    assert parent.data.metrics["rows/none/mAP_avg"] == pytest.approx(mean)

    order = ["row", "split", "hash"]
    logged = load_runs("tal-bench", tracking_uri=uri).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(logged, expected.sort_values(order, ignore_index=True))


def test_a_child_holds_params_metrics_tags_and_files(uri: str, record: StudyRecord, folder: Path) -> None:
    from mlflow import MlflowClient

    tracker = Tracker(uri)
    row = next(r for r in record.rows if r.name == "cross-modal")
    StudyFolder(folder).run_file(row.finals[0], ".safetensors").write_bytes(b"weights")
    tracker.study(record, folder)
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


def log_by_row_name(tracker: Tracker, record: StudyRecord, folder: Path) -> None:
    """Log as a study does: by row name, with the runs of a variant's teachers also under the variant."""
    files = StudyFolder(folder)
    rows = {row.name: row for row in record.rows}
    for row in record.rows:
        taught_by = [rows[model] for model in row.teachers.values() if model in rows]
        for hash_ in [teacher.finals[0] for teacher in taught_by] + [*row.trials, *row.finals]:
            result = files.read_run(hash_)
            assert result is not None
            tracker.log(result, row.name)


def test_runs_logged_by_name_end_up_in_their_rows(uri: str, record: StudyRecord, folder: Path) -> None:
    unfinished = record.model_copy(update={"rows": ()})
    tracker = Tracker(uri)
    tracker.study(unfinished, folder)
    log_by_row_name(tracker, record, folder)
    early = load_runs("tal-bench", tracking_uri=uri)
    assert len(early) == RUNS, "a teacher's run does not belong to its student's row"
    assert set(early[early["student"] == "conv"]["row"]) == {"conv"}
    tracker.finish(record, "table")
    order = ["row", "split", "hash"]
    logged = load_runs("tal-bench", tracking_uri=uri).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(logged, load_runs(folder).sort_values(order, ignore_index=True))
    _, children = runs_of(uri)
    names = [run.info.run_name for run in children]
    assert len(set(names)) == len(names), "run names are unique"


def test_runs_that_a_row_no_longer_has_leave_it(uri: str, record: StudyRecord, folder: Path) -> None:
    tracker = Tracker(uri)
    tracker.study(record, folder)
    tracker.finish(record, "table")
    none = next(row for row in record.rows if row.name == "none")
    one_final = none.model_copy(update={"finals": none.finals[:1], "seeds": (0,)})
    fewer = record.model_copy(
        update={"rows": tuple(one_final if r.name == "none" else r for r in record.rows)}
    )
    StudyFolder(folder).write_study(fewer)
    again = Tracker(uri)
    again.study(fewer, folder)
    again.finish(fewer, "table")
    logged = load_runs("tal-bench", tracking_uri=uri)
    test = logged[logged["split"] == "test"]
    assert list(test["row"]).count("none") == 1
    assert Counter(logged["row"]) == Counter(load_runs(folder)["row"])


def test_a_killed_study_is_resumed_and_its_stale_runs_are_ended(
    uri: str, record: StudyRecord, folder: Path
) -> None:
    from mlflow import MlflowClient

    Tracker(uri).study(record, folder)
    (parent,), children = runs_of(uri)
    assert parent.info.status == "RUNNING"
    stale_run = children[0]
    client = MlflowClient(uri)
    client.update_run(stale_run.info.run_id, status="RUNNING")

    tracker = Tracker(uri)
    tracker.study(record, folder)
    tracker.finish(record, "table")
    (same,), children = runs_of(uri)
    assert same.info.run_id == parent.info.run_id
    assert same.info.status == "FINISHED"
    swept = next(run for run in children if run.info.run_id == stale_run.info.run_id)
    assert swept.info.status == "KILLED"
    assert len([run for run in children if "tal_bench.hash" in run.data.tags]) == RUNS
    assert not [run for run in children if run.info.status == "RUNNING"]
    assert len(load_runs("tal-bench", tracking_uri=uri)) == RUNS


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_a_study_that_stops_says_so_and_is_resumed(
    uri: str, record: StudyRecord, folder: Path, status: Any
) -> None:
    tracker = Tracker(uri)
    tracker.study(record, folder)
    tracker.stop(status, "interrupted")
    (parent,), _ = runs_of(uri)
    assert parent.info.status == status
    assert parent.data.tags["tal_bench.reason"] == "interrupted"
    again = Tracker(uri)
    again.study(record, folder)
    again.finish(record, "table")
    (same,), _ = runs_of(uri)
    assert (same.info.run_id, same.info.status) == (parent.info.run_id, "FINISHED")
    assert "tal_bench.reason" not in same.data.tags


def test_studies_of_dead_processes_are_ended_by_the_next(
    uri: str, record: StudyRecord, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = record.model_copy(update={"rows": ()})
    host = stale_runs.this_process().split()[0]
    for number, process in enumerate(
        (f"{host} 999999999 1", "elsewhere 999999999 1", stale_runs.this_process())
    ):
        with monkeypatch.context() as patch:
            patch.setattr("tal_bench.tracking.tracker.this_process", lambda process=process: process)
            Tracker(uri).study(empty.model_copy(update={"fingerprint": f"f{number}"}), folder)
    Tracker(uri).study(empty, folder)
    parents, _ = runs_of(uri)
    status = {run.data.tags["tal_bench.fingerprint"]: run.info.status for run in parents}
    assert status == {"f0": "KILLED", "f1": "RUNNING", "f2": "RUNNING", empty.fingerprint: "RUNNING"}


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
        Tracker(uri).study(record, folder)
    assert not (tmp_path / "new" / "mlflow.db").exists()
    Tracker(uri).study(record, folder)
    assert len(runs_of(uri)[1]) == RUNS
    assert [f.name for f in sorted((tmp_path / "new").glob("mlflow.db*"))] == ["mlflow.db"]


def test_costs_measured_later_are_added_to_the_runs(uri: str, folder: Path) -> None:
    record = write_fake_study(folder, rows=SELECTED_ROWS[:1], costs=False)
    tracker = Tracker(uri)
    tracker.study(record, folder)
    assert load_runs("tal-bench", tracking_uri=uri)["gmacs"].isna().all()
    record = write_fake_study(folder, rows=SELECTED_ROWS[:1])
    tracker.finish(record, "table")
    assert (load_runs("tal-bench", tracking_uri=uri)["gmacs"] == 25.25).all()


def test_a_repeated_run_replaces_the_failed_one(uri: str, record: StudyRecord, folder: Path) -> None:
    Tracker(uri).study(record, folder)
    again = write_fake_study(folder, rows=SELECTED_ROWS)
    tracker = Tracker(uri)
    tracker.study(again, folder)
    log_all(tracker, again, folder)
    tracker.finish(again, "table")
    table = load_runs("tal-bench", tracking_uri=uri)
    assert len(table) == RUNS
    assert set(table["status"]) == {"finished", "pruned"}


def test_studies_have_separate_parent_runs(uri: str, record: StudyRecord, folder: Path) -> None:
    empty = record.model_copy(update={"rows": ()})
    Tracker(uri).study(empty, folder)
    Tracker(uri).study(empty, folder)
    assert len(runs_of(uri)[0]) == 1
    Tracker(uri).study(empty.model_copy(update={"fingerprint": "other"}), folder)
    smoke = empty.spec.model_copy(update={"budget": "smoke"})
    Tracker(uri).study(empty.model_copy(update={"spec": smoke}), folder)
    assert len(runs_of(uri)[0]) == 3


def test_rows_of_another_choice_of_variants_are_kept(uri: str, record: StudyRecord, folder: Path) -> None:
    Tracker(uri).study(record, folder)
    fewer = record.model_copy(update={"rows": tuple(r for r in record.rows if r.name != "cross-modal")})
    again = Tracker(uri)
    again.study(fewer, folder)
    again.finish(fewer, "table")
    rows = load_runs("tal-bench", tracking_uri=uri)["row"]
    assert Counter(rows)["cross-modal"] == 5


def test_runs_missed_by_a_broken_server_are_logged_later(
    uri: str,
    record: StudyRecord,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = Tracker(uri)
    tracker.study(record.model_copy(update={"rows": ()}), folder)
    calls = Counter[str]()

    def refuse(*_: object, **__: object) -> None:
        calls["create_run"] += 1
        raise ConnectionError("server went away")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(tracker._client, "create_run", refuse)
        log_all(tracker, record, folder)
    warnings = [r for r in caplog.records if r.name.startswith("tal_bench")]
    assert len(warnings) == 1
    assert "server went away" in warnings[0].getMessage()
    assert calls["create_run"] == 1, "no further request before the backoff has passed"
    tracker.finish(record, "table")
    assert len(load_runs("tal-bench", tracking_uri=uri)) == RUNS


def test_an_unreachable_server(
    record: StudyRecord, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "DRAIN_TIMEOUT", 0.0)
    tracker = Tracker("http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        tracker.study(record, folder)
        log_all(tracker, record, folder)
        tracker.finish(record, "table")
    assert len([r for r in caplog.records if r.name.startswith("tal_bench")]) == 1


@pytest.mark.parametrize("store", ["file:///somewhere", "./mlruns", "mlruns"])
def test_folders_are_refused_with_a_hint(store: str) -> None:
    with pytest.raises(InputError, match="sqlite"):
        Tracker(store)


def test_tracking_can_be_off(record: StudyRecord, folder: Path, tmp_path: Path) -> None:
    tracker = Tracker("off")
    tracker.study(record, folder)
    log_all(tracker, record, folder)
    tracker.finish(record, "table")
    assert [p.name for p in tmp_path.iterdir()] == ["study"]


def test_an_unknown_experiment_lists_the_known_ones(uri: str) -> None:
    with pytest.raises(InputError, match="Default"):
        load_runs("nothing", tracking_uri=uri)


def test_names_and_notes_are_valid_for_mlflow() -> None:
    assert run_data.metric_name("map_0.55") == "mAP/tIoU_0.55"
    assert run_data.plain("a@b=(c)") == "a_b__c_"
    lines = "\n".join("x" * 99 for _ in range(200))
    text = run_data.note(lines)
    assert len(text) < 8000
    assert text.splitlines()[-3] == "x" * 99


def registrable(folder: Path, record: StudyRecord) -> StudyRecord:
    """Add weights on disk and the chosen trial of each row, as registration needs them."""
    files = StudyFolder(folder)
    rows = tuple(r.model_copy(update={"chosen": r.trials[0] if r.trials else ""}) for r in record.rows)
    for row in rows:
        for hash_ in row.finals:
            files.run_file(hash_, ".safetensors").write_bytes(b"weights")
    return record.model_copy(update={"rows": rows})


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
        tracker = Tracker(uri)
        tracker.study(record, folder)
        tracker.finish(record, "table")
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
    tracker = Tracker(uri, register=why != "disabled")
    tracker.study(record, folder)
    tracker.finish(record, "table")
    assert not MlflowClient(uri).search_registered_models()


def test_the_dataset_is_an_input_of_every_run(uri: str, record: StudyRecord, folder: Path) -> None:
    from mlflow import MlflowClient

    tracker = Tracker(uri)
    tracker.study(record, folder)
    tracker.finish(record, "table")
    (parent,), children = runs_of(uri)
    contexts = Counter[str]()
    for run in (parent, *children):
        (used_dataset,) = run.inputs.dataset_inputs
        assert (used_dataset.dataset.name, used_dataset.dataset.digest) == ("sprites", "f" * 16)
        contexts[used_dataset.tags[0].value] += 1
    assert contexts == {"study": 1, "tuning": 4, "final": 9}
    files = {f.path for f in MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert "environment.json" in files


def test_runs_on_labels_have_the_parameters_of_distilled_ones(
    uri: str, record: StudyRecord, folder: Path
) -> None:
    tracker = Tracker(uri)
    tracker.study(record, folder)
    _, children = runs_of(uri)
    plain = next(r for r in children if r.data.tags["tal_bench.row"] == "none")
    assert (plain.data.params["teacher"], plain.data.params["soft_weight"]) == ("none", "0")
