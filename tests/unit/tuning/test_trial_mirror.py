"""Mirroring of trials to an Optuna storage, also after kills and failures."""

from __future__ import annotations

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
from tal_bench.tuning import trial_mirror
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


def test_trials_appear_while_they_run(storage: str) -> None:
    mirror = TrialMirror(storage, "study")
    mirror.generation_started("both", SPACE, SETTINGS, HASHES)
    assert states(storage) == ["RUNNING"] * 4
    assert [trial.params for trial in trials(storage)] == SETTINGS
    history = (EpochRecord(epoch=2, losses={}, validation_map=12.0),)
    pruned = result_of(SPECS[1], "pruned").model_copy(update={"history": history})
    for result in (result_of(SPECS[2], score=30.0), pruned, result_of(SPECS[3], "failed")):
        mirror.run_ended("both", result)
    mirror.run_ended("both", result_of(run_spec(seed=77)))  # a final run, which is not a trial
    mirror.close(wait=True)
    assert states(storage) == ["RUNNING", "PRUNED", "COMPLETE", "FAIL"]
    _, stopped, complete, fail = trials(storage)
    assert complete.value == 30.0
    assert stopped.intermediate_values == {2: 12.0}
    assert fail.user_attrs["reason"] == "out of luck"


def test_trials_of_a_killed_study_keep_their_numbers(storage: str) -> None:
    TrialMirror(storage, "study").generation_started("both", SPACE, SETTINGS[:2], HASHES[:2])
    if "://" not in storage:
        with Path(storage).open("a") as file:
            file.write('{"op_code":4,"work')  # killed while writing
    again = TrialMirror(storage, "study")
    again.generation_started("both", SPACE, SETTINGS[:2], HASHES[:2])
    for spec in SPECS[:2]:
        again.run_ended("both", result_of(spec))
    again.generation_started("both", SPACE, SETTINGS[2:], HASHES[2:])
    again.close(wait=True)
    assert states(storage) == ["COMPLETE"] * 2 + ["RUNNING"] * 2
    third = TrialMirror(storage, "study")
    for part in (slice(0, 2), slice(2, 4)):
        third.generation_started("both", SPACE, SETTINGS[part], HASHES[part])
    for spec in SPECS:
        third.run_ended("both", result_of(spec))
    third.close(wait=True)
    assert [(t.number, t.params, t.state.name) for t in trials(storage)] == [
        (number, settings, "COMPLETE") for number, settings in enumerate(SETTINGS)
    ]


def test_a_failed_trial_is_added_again_as_a_retry(storage: str) -> None:
    first = TrialMirror(storage, "study")
    first.generation_started("both", SPACE, SETTINGS[:1], HASHES[:1])
    first.run_ended("both", result_of(SPECS[0], "failed"))
    again = TrialMirror(storage, "study")
    again.generation_started("both", SPACE, SETTINGS[:1], HASHES[:1])
    again.run_ended("both", result_of(SPECS[0]))
    assert states(storage) == ["FAIL", "COMPLETE"]
    callback = optuna.storages.RetryHeartbeatStaleTrialCallback
    assert callback.retried_trial_number(trials(storage)[1]) == 0
    assert callback.retry_history(trials(storage)[1]) == [0]


def test_an_unavailable_storage_is_filled_later(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tal_bench.system.retry.MIN_BACKOFF", 0.05)
    mirror = TrialMirror(storage, "study")
    mirror.generation_started("both", SPACE, SETTINGS[:2], HASHES[:2])
    with monkeypatch.context() as patch:
        patch.setattr(type(mirror._storage), "set_trial_state_values", lambda *_: 1 / 0)
        patch.setattr(trial_mirror, "open_storage", lambda storage: 1 / 0)
        mirror.run_ended("both", result_of(SPECS[0]))
        mirror.generation_started("both", SPACE, SETTINGS[2:], HASHES[2:])
        mirror.run_ended("both", result_of(SPECS[2]))
    assert states(storage) == ["RUNNING"] * 2
    mirror.close(wait=True)
    assert states(storage) == ["COMPLETE", "RUNNING", "COMPLETE", "RUNNING"]


def test_running_trials_have_heartbeats(tmp_path: Path) -> None:
    import sqlite3

    mirror = TrialMirror(f"sqlite:///{tmp_path / 'x.db'}", "study")
    mirror.generation_started("both", SPACE, SETTINGS, HASHES)
    with sqlite3.connect(tmp_path / "x.db") as database:
        assert database.execute("select count(*) from trial_heartbeats").fetchall() == [(4,)]


@pytest.mark.parametrize("url", ["oracle://nowhere", "nonsense://", "postgres+x://h/d"])
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="--storage"):
        database_url(url)


def test_postgresql_urls_get_the_driver_of_the_extra() -> None:
    pytest.importorskip("psycopg")
    assert database_url("postgresql://u:p@h/d") == "postgresql+psycopg://u:p@h/d"
    assert database_url("some/file.journal") is None
