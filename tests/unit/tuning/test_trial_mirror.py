"""Mirroring of trials to an Optuna storage, also after kills and failures."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from study_parts import result_of, run_spec

from tal_bench.config import Range
from tal_bench.errors import InputError
from tal_bench.results.records import EpochRecord
from tal_bench.tuning.storage import database_url
from tal_bench.tuning.trial_mirror import TrialMirror

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SPACE = {"lr": Range(low=0.1, high=10.0), "soft_weight": Range(low=0.1, high=0.9, log=False)}
SETTINGS = [{"lr": 0.5 * (1 + i), "soft_weight": 0.5} for i in range(4)]
SPECS = [run_spec(seed=i) for i in range(4)]
HASHES = [spec.hash for spec in SPECS]


@pytest.fixture(params=["journal", "database"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "x.journal") if request.param == "journal" else f"sqlite:///{tmp_path / 'x.db'}"


def trials(storage: str) -> list[optuna.trial.FrozenTrial]:
    opened: Any = storage if "://" in storage else JournalStorage(JournalFileBackend(storage))
    (summary,) = optuna.get_all_study_summaries(opened)
    assert summary.study_name.startswith("study/both/")
    return optuna.load_study(study_name=summary.study_name, storage=opened).trials


def states(storage: str) -> list[str]:
    return [trial.state.name for trial in trials(storage)]


def begin(mirror: TrialMirror, first: int, end: int) -> None:
    """Begin a generation and show it."""
    mirror.generation_started("both", SPACE, SETTINGS[first:end], HASHES[first:end], [{}] * (end - first))
    mirror.sync()


def test_trials_appear_while_they_run(storage: str) -> None:
    mirror = TrialMirror(storage, "study")
    begin(mirror, 0, 4)
    assert states(storage) == ["RUNNING"] * 4
    assert [trial.params for trial in trials(storage)] == SETTINGS
    history = (EpochRecord(epoch=2, losses={}, validation_map=12.0),)
    pruned = result_of(SPECS[1], "pruned").model_copy(update={"history": history})
    for result in (result_of(SPECS[2], score=30.0), pruned, result_of(SPECS[3], "failed")):
        mirror.run_ended(result)
    mirror.run_ended(result_of(run_spec(seed=77)))  # a final run, which is not a trial
    for _ in range(2):
        mirror.sync()
        assert states(storage) == ["RUNNING", "PRUNED", "COMPLETE", "FAIL"]
    _, stopped, complete, fail = trials(storage)
    assert complete.value == 30.0
    assert stopped.intermediate_values == {2: 12.0}
    assert fail.user_attrs["reason"] == "out of luck"


def test_a_search_for_a_front_shows_the_costs(storage: str) -> None:
    mirror = TrialMirror(storage, "study")
    costs = [{"gmacs": 2.0, "params": 7.0}] * 2
    mirror.generation_started("both", SPACE, SETTINGS[:2], HASHES[:2], costs)
    mirror.run_ended(result_of(SPECS[0], score=30.0))
    mirror.sync()
    assert [trial.state.name for trial in trials(storage)] == ["COMPLETE", "RUNNING"]
    assert trials(storage)[0].values == [30.0, 2.0, 7.0]


def test_trials_of_a_killed_study_keep_their_numbers(storage: str) -> None:
    begin(TrialMirror(storage, "study"), 0, 2)
    if "://" not in storage:
        with Path(storage).open("a") as file:
            file.write('{"op_code":4,"work')  # killed while writing
    again = TrialMirror(storage, "study")
    begin(again, 0, 2)
    for spec in SPECS[:2]:
        again.run_ended(result_of(spec))
    begin(again, 2, 4)
    assert states(storage) == ["COMPLETE"] * 2 + ["RUNNING"] * 2
    third = TrialMirror(storage, "study")
    for first in (0, 2):
        begin(third, first, first + 2)
    for spec in SPECS:
        third.run_ended(result_of(spec))
    third.sync()
    assert [(t.number, t.params, t.state.name) for t in trials(storage)] == [
        (number, settings, "COMPLETE") for number, settings in enumerate(SETTINGS)
    ]


def test_a_failed_trial_is_added_again_as_a_retry(storage: str) -> None:
    first = TrialMirror(storage, "study")
    begin(first, 0, 1)
    first.run_ended(result_of(SPECS[0], "failed"))
    first.sync()
    again = TrialMirror(storage, "study")
    begin(again, 0, 1)
    assert states(storage) == ["FAIL", "RUNNING"]
    again.run_ended(result_of(SPECS[0]))
    again.sync()
    assert states(storage) == ["FAIL", "COMPLETE"]
    callback = optuna.storages.RetryHeartbeatStaleTrialCallback
    assert callback.retried_trial_number(trials(storage)[1]) == 0
    assert callback.retry_history(trials(storage)[1]) == [0]


def test_settings_that_are_proposed_twice_are_one_trial(storage: str) -> None:
    mirror = TrialMirror(storage, "study")
    mirror.generation_started("both", SPACE, SETTINGS[:1] * 2, HASHES[:1] * 2, [{}] * 2)
    mirror.sync()
    mirror.run_ended(result_of(SPECS[0]))
    mirror.sync()
    assert states(storage) == ["COMPLETE"]


@pytest.mark.parametrize("request_", ["create_new_trial", "set_trial_state_values", "set_trial_user_attr"])
def test_an_interrupted_sync_is_completed(
    storage: str, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the storage goes away, before or after it has carried out a request."""
    mirror = TrialMirror(storage, "study")
    begin(mirror, 0, 2)
    for spec in SPECS:
        mirror.run_ended(result_of(spec))
    mirror.generation_started("both", SPACE, SETTINGS[2:], HASHES[2:], [{}] * 2)
    kind = optuna.storages.RDBStorage if "://" in storage else JournalStorage
    real = getattr(kind, request_)
    for carried_out in (False, True):

        def broken(*args: Any, carried_out: bool = carried_out, **more: Any) -> None:
            if carried_out:
                real(*args, **more)
            raise ConnectionError("connection reset")

        with monkeypatch.context() as patch, pytest.raises(ConnectionError):
            patch.setattr(kind, request_, broken)
            mirror.sync()
    mirror.sync()
    assert [(t.state.name, t.params) for t in trials(storage)] == [("COMPLETE", s) for s in SETTINGS]


def test_a_lost_storage_is_filled_again(storage: str) -> None:
    mirror = TrialMirror(storage, "study")
    begin(mirror, 0, 4)
    for spec in SPECS[:3]:
        mirror.run_ended(result_of(spec))
    mirror.sync()
    Path(storage.removeprefix("sqlite:///")).unlink()
    mirror.sync()
    assert states(storage) == ["COMPLETE"] * 3 + ["RUNNING"]


def test_running_trials_have_heartbeats(tmp_path: Path) -> None:
    mirror = TrialMirror(f"sqlite:///{tmp_path / 'x.db'}", "study")
    begin(mirror, 0, 4)
    mirror.run_ended(result_of(SPECS[0]))
    mirror.sync()
    with sqlite3.connect(tmp_path / "x.db") as database:
        assert database.execute("select count(*) from trial_heartbeats").fetchall() == [(4,)]
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01'")
    mirror.sync()
    with sqlite3.connect(tmp_path / "x.db") as database:
        (renewed,) = database.execute("select count(*) from trial_heartbeats where heartbeat > '2021-01-01'")
    assert renewed == (3,), "only running trials"


@pytest.mark.parametrize(
    ("revision", "advice"), [("v3.0.0.d", "optuna storage upgrade"), ("x", "pip install")]
)
def test_tables_of_another_version_are_refused(tmp_path: Path, revision: str, advice: str) -> None:
    mirror = TrialMirror(f"sqlite:///{tmp_path / 'x.db'}", "study")
    begin(mirror, 0, 1)
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("update alembic_version set version_num = ?", [revision])
    with pytest.raises(RuntimeError, match=advice):
        mirror.sync()


def test_the_storage_can_be_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begin(TrialMirror("off", "study"), 0, 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["oracle://nowhere", "nonsense://", "postgres+x://h/d"])
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="--storage"):
        database_url(url)


def test_postgresql_urls_get_the_driver_of_the_extra() -> None:
    pytest.importorskip("psycopg")
    assert database_url("postgresql://u:p@h/d") == "postgresql+psycopg://u:p@h/d"
    assert database_url("some/file.journal") is None


def test_another_thread_never_sees_a_search_without_trials(tmp_path: Path) -> None:
    mirror = TrialMirror(str(tmp_path / "optuna.journal"), "study")
    seen: list[int] = []

    class Watched(dict[str, Any]):
        def __setitem__(self, row: str, search: Any) -> None:
            seen.append(len(search.trials))
            super().__setitem__(row, search)

        def setdefault(self, row: str, search: Any) -> Any:
            seen.append(len(search.trials))
            return super().setdefault(row, search)

    mirror._searches = Watched()
    mirror.generation_started("both", {}, [{}], ["a"], [{}])
    assert seen == [1]
