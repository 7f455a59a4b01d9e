"""The trials of a study, shown in an Optuna storage while they happen.

What is tried, and under which number, follows from the study's seed and the results on disk (see `tune`); a
storage decides nothing. It is written for those who look: dashboards, colleagues, programs on other machines.
So a database that is away costs nothing, and one that was lost altogether is filled again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tal_bench.config import Search, Settings, content_hash
from tal_bench.results.records import RunResult
from tal_bench.system.retry import RetryQueue
from tal_bench.tuning.search import distributions, snapped
from tal_bench.tuning.storage import HEARTBEAT, open_storage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HASH = "tal_bench.hash"
"""User attribute of a trial: hash of its run."""
OPEN = ("RUNNING", "WAITING")


class TrialMirror:
    """Writes trials into a storage.

    A trial that a killed process left running is taken up under its number. One that others have declared
    dead meanwhile, by its heartbeat, is entered again as a retry, as Optuna's callback for that would do.

    Args:
        storage: as `open_storage` takes it.
        study: name that the rows' Optuna studies start with.
    """

    def __init__(self, storage: str, study: str) -> None:
        self._given, self._study = storage, study
        self._storage: BaseStorage | None = None
        self._names: dict[str, str] = {}
        self._rows: dict[str, Any] = {}
        self._open: dict[tuple[str, str], int] = {}
        self._costs: dict[tuple[str, str], dict[str, float]] = {}
        self._retry_queue = RetryQueue(f"Optuna storage {_without_password(storage)}", self._forget)
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def generation_started(
        self,
        row: str,
        space: Mapping[str, Search],
        settings: Sequence[Settings],
        hashes: Sequence[str],
        costs: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """A generation of trials begins.

        Args:
            row: that is tuned.
            space: names and ranges.
            settings: of the trials, in the order of their numbers.
            hashes: of their runs.
            costs: of their architectures, one for each objective besides the mAP.
        """
        first = content_hash([hashes[0], sorted(space)], digits=8)  # tells one search from another
        self._names.setdefault(row, f"{self._study}/{row}/{first}")
        if costs:
            self._costs |= {(row, h): dict(c) for h, c in zip(hashes, costs, strict=True)}
        self._retry_queue.submit(lambda: self._enter(row, space, settings, hashes))

    def run_ended(self, row: str, result: RunResult) -> None:
        """A run has ended; one that is no trial of the row is left out."""
        self._retry_queue.submit(lambda: self._tell(row, result))

    def close(self, *, wait: bool) -> None:
        """Give no more signs of life; what still runs is left to those who start the study again.

        Args:
            wait: for a storage that is away, to write what is left.
        """
        self._ended.set()
        if wait:
            self._retry_queue.drain()

    def _enter(
        self, row: str, space: Mapping[str, Search], settings: Sequence[Settings], hashes: Sequence[str]
    ) -> None:
        import optuna
        from optuna.study import StudyDirection

        storage = self._opened()
        if row not in self._rows:
            costs = self._costs.get((row, hashes[0]), {})
            self._rows[row] = optuna.create_study(
                study_name=self._names[row],
                storage=storage,
                directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(costs)],
                load_if_exists=True,
            )
        study = self._rows[row]
        known = {trial.user_attrs.get(HASH): trial for trial in study.get_trials(deepcopy=False)}
        for chosen, hash_ in zip(settings, hashes, strict=True):
            trial = known.get(hash_)
            if trial is None or trial.state.name == "FAIL":
                trial = self._new(study, chosen, space, hash_, trial)
            if trial.state.name in OPEN:
                self._open[row, hash_] = trial._trial_id
        self._sign_of_life()

    def _new(
        self,
        study: Any,
        settings: Settings,
        space: Mapping[str, Search],
        hash_: str,
        dead: FrozenTrial | None,
    ) -> FrozenTrial:
        import optuna

        earlier = {} if dead is None else {"failed_trial": dead.number, **dead.system_attrs}
        if dead is not None:
            earlier["retry_history"] = [*dead.system_attrs.get("retry_history", []), dead.number]
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=snapped(settings, space),
                distributions=distributions(space),
                user_attrs={HASH: hash_},
                system_attrs=earlier,
            )
        )
        every: list[FrozenTrial] = study.get_trials(deepcopy=False)
        return next(trial for trial in reversed(every) if trial.user_attrs.get(HASH) == hash_)

    def _tell(self, row: str, result: RunResult) -> None:
        from optuna.trial import TrialState

        trial = self._open.get((row, result.hash))
        if trial is None:
            return
        storage = self._opened()
        costs = self._costs.get((row, result.hash), {})
        for record in result.history:
            if record.validation_map is not None:
                storage.set_trial_intermediate_value(trial, record.epoch, record.validation_map)
        if result.error:
            storage.set_trial_user_attr(trial, "reason", result.error)
        state = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(
            result.status, TrialState.FAIL
        )
        values = [result.metrics["map_avg"], *costs.values()] if state == TrialState.COMPLETE else None
        storage.set_trial_state_values(trial, state, values)
        del self._open[row, result.hash]

    def _opened(self) -> BaseStorage:
        if self._storage is None:
            self._storage = open_storage(self._given)
        return self._storage

    def _forget(self) -> None:
        """After a failure the storage is opened anew; what is open stays so."""
        self._storage, self._rows = None, {}

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            with suppress(Exception):  # the next sign may come through
                self._sign_of_life()

    def _sign_of_life(self) -> None:
        from optuna.storages import RDBStorage

        if isinstance(self._storage, RDBStorage):
            for trial in list(self._open.values()):
                self._storage.record_heartbeat(trial)


def _without_password(storage: str) -> str:
    scheme, sign, rest = storage.rpartition("@")
    return f"{scheme.split('://')[0]}://…@{rest}" if sign else storage
