"""Trials in an Optuna storage: numbered as they were proposed, whatever was killed in between."""

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
from tal_bench.tuning import trial_mirror as ledger_module
from tal_bench.tuning.storage import database_url
from tal_bench.tuning.trial_mirror import TrialMirror

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
SPACE = {"lr": Range(low=0.1, high=10.0), "soft_weight": Range(low=0.1, high=0.9, log=False)}
SETTINGS = [{"lr": 0.5 * (1 + i), "soft_weight": 0.5} for i in range(4)]
SPECS = [run_spec(seed=i) for i in range(4)]
HASHES = [spec.hash for spec in SPECS]


@pytest.fixture(params=["journal", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "x.journal") if request.param == "journal" else f"sqlite:///{tmp_path / 'x.db'}"


def trials(place: str) -> list[optuna.trial.FrozenTrial]:
    storage: Any = place if "://" in place else JournalStorage(JournalFileBackend(place))
    (summary,) = optuna.get_all_study_summaries(storage)
    assert summary.study_name.startswith("study/both/")
    return optuna.load_study(study_name=summary.study_name, storage=storage).trials


def states(place: str) -> list[str]:
    return [trial.state.name for trial in trials(place)]


def test_trials_appear_while_they_happen(place: str) -> None:
    ledger = TrialMirror(place, "study")
    ledger.generation_started("both", SPACE, SETTINGS, HASHES)
    assert states(place) == ["RUNNING"] * 4
    assert [trial.params for trial in trials(place)] == SETTINGS
    history = (EpochRecord(epoch=2, losses={}, validation_map=12.0),)
    pruned = result_of(SPECS[1], "pruned").model_copy(update={"history": history})
    for result in (result_of(SPECS[2], score=30.0), pruned, result_of(SPECS[3], "failed")):
        ledger.run_ended("both", result)
    ledger.run_ended("both", result_of(run_spec(seed=77)))  # a final run is no trial
    ledger.close(wait=True)
    assert states(place) == ["RUNNING", "PRUNED", "COMPLETE", "FAIL"]
    _, stopped, complete, fail = trials(place)
    assert complete.value == 30.0
    assert stopped.intermediate_values == {2: 12.0}
    assert fail.user_attrs["reason"] == "out of luck"


def test_a_killed_study_takes_its_trials_up_under_their_numbers(place: str) -> None:
    TrialMirror(place, "study").generation_started("both", SPACE, SETTINGS[:2], HASHES[:2])
    if "://" not in place:
        with Path(place).open("a") as file:
            file.write('{"op_code":4,"work')  # killed while it wrote
    again = TrialMirror(place, "study")
    again.generation_started("both", SPACE, SETTINGS[:2], HASHES[:2])
    for spec in SPECS[:2]:
        again.run_ended("both", result_of(spec))
    again.generation_started("both", SPACE, SETTINGS[2:], HASHES[2:])
    again.close(wait=True)
    assert states(place) == ["COMPLETE"] * 2 + ["RUNNING"] * 2
    third = TrialMirror(place, "study")
    for part in (slice(0, 2), slice(2, 4)):
        third.generation_started("both", SPACE, SETTINGS[part], HASHES[part])
    for spec in SPECS:
        third.run_ended("both", result_of(spec))
    third.close(wait=True)
    assert [(t.number, t.params, t.state.name) for t in trials(place)] == [
        (number, settings, "COMPLETE") for number, settings in enumerate(SETTINGS)
    ]


def test_a_failed_trial_that_is_done_again_is_a_retry(place: str) -> None:
    first = TrialMirror(place, "study")
    first.generation_started("both", SPACE, SETTINGS[:1], HASHES[:1])
    first.run_ended("both", result_of(SPECS[0], "failed"))
    again = TrialMirror(place, "study")
    again.generation_started("both", SPACE, SETTINGS[:1], HASHES[:1])
    again.run_ended("both", result_of(SPECS[0]))
    assert states(place) == ["FAIL", "COMPLETE"]
    callback = optuna.storages.RetryHeartbeatStaleTrialCallback
    assert callback.retried_trial_number(trials(place)[1]) == 0
    assert callback.retry_history(trials(place)[1]) == [0]


def test_a_storage_that_was_away_is_filled_when_it_is_back(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tal_bench.system.retry.MIN_BACKOFF", 0.05)
    ledger = TrialMirror(place, "study")
    ledger.generation_started("both", SPACE, SETTINGS[:2], HASHES[:2])
    with monkeypatch.context() as patch:
        patch.setattr(type(ledger._storage), "set_trial_state_values", lambda *_: 1 / 0)
        patch.setattr(ledger_module, "open_storage", lambda given: 1 / 0)
        ledger.run_ended("both", result_of(SPECS[0]))
        ledger.generation_started("both", SPACE, SETTINGS[2:], HASHES[2:])
        ledger.run_ended("both", result_of(SPECS[2]))
    assert states(place) == ["RUNNING"] * 2
    ledger.close(wait=True)
    assert states(place) == ["COMPLETE", "RUNNING", "COMPLETE", "RUNNING"]


def test_running_trials_give_signs_of_life(tmp_path: Path) -> None:
    import sqlite3

    ledger = TrialMirror(f"sqlite:///{tmp_path / 'x.db'}", "study")
    ledger.generation_started("both", SPACE, SETTINGS, HASHES)
    with sqlite3.connect(tmp_path / "x.db") as database:
        assert database.execute("select count(*) from trial_heartbeats").fetchall() == [(4,)]


@pytest.mark.parametrize("url", ["oracle://nowhere", "nonsense://", "postgres+x://h/d"])
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="--storage"):
        database_url(url)


def test_postgresql_gets_the_driver_that_we_install() -> None:
    pytest.importorskip("psycopg")
    assert database_url("postgresql://u:p@h/d") == "postgresql+psycopg://u:p@h/d"
    assert database_url("some/file.journal") is None
