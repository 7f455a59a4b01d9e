"""Mirror of a study's trials in an Optuna storage, for dashboards and other programs.

The settings and numbers of the trials follow from the study's seed and the results on disk (see `search`).
They are never read from the storage, so an unavailable database does not affect a study, and a lost one is
filled again.
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
from tal_bench.tuning.storage import HEARTBEAT_INTERVAL, open_storage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HASH = "tal_bench.hash"
"""User attribute of a trial with the hash of its run."""
UNFINISHED = ("RUNNING", "WAITING")


class TrialMirror:
    """Writes the trials of a study to an Optuna storage, with one Optuna study per row.

    A trial that a killed process left RUNNING is continued under its number. If another program has marked it
    as failed because of its heartbeat, it is added again as a retry, as Optuna's
    `RetryHeartbeatStaleTrialCallback` does.

    Args:
        storage: Database URL or path of a journal file, see `open_storage`.
        study: Prefix of the names of the Optuna studies.
    """

    def __init__(self, storage: str, study: str) -> None:
        self._location, self._study = storage, study
        self._storage: BaseStorage | None = None
        self._study_names: dict[str, str] = {}
        self._studies: dict[str, Any] = {}
        self._running: dict[tuple[str, str], int] = {}
        self._costs: dict[tuple[str, str], dict[str, float]] = {}
        self._retry_queue = RetryQueue(f"Optuna storage {_without_password(storage)}", self._reset_connection)
        self._closed = threading.Event()
        threading.Thread(target=self._record_heartbeats, daemon=True, name="heartbeat").start()

    def generation_started(
        self,
        row: str,
        space: Mapping[str, Search],
        settings: Sequence[Settings],
        hashes: Sequence[str],
        costs: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """Add the trials of a generation with status RUNNING.

        Args:
            row: Name of the tuned row.
            space: Search space of each setting.
            settings: Settings of the trials, in the order of their numbers.
            hashes: Hashes of the trials' runs.
            costs: Costs of the trials' architectures for each objective other than mAP.
        """
        search = content_hash([hashes[0], sorted(space)], digits=8)  # distinguishes searches of the same row
        self._study_names.setdefault(row, f"{self._study}/{row}/{search}")
        if costs:
            self._costs |= {(row, h): dict(c) for h, c in zip(hashes, costs, strict=True)}
        self._retry_queue.submit(lambda: self._add_trials(row, space, settings, hashes))

    def run_ended(self, row: str, result: RunResult) -> None:
        """Write the result of a trial; ignored if the run is not a running trial of the row."""
        self._retry_queue.submit(lambda: self._write_result(row, result))

    def close(self, *, wait: bool) -> None:
        """Stop the heartbeats. Unfinished trials stay RUNNING and are continued when the study starts again.

        Args:
            wait: Whether to wait for an unavailable storage to write the remaining trials.
        """
        self._closed.set()
        if wait:
            self._retry_queue.drain()

    def _add_trials(
        self, row: str, space: Mapping[str, Search], settings: Sequence[Settings], hashes: Sequence[str]
    ) -> None:
        import optuna
        from optuna.study import StudyDirection

        storage = self._open_storage()
        if row not in self._studies:
            costs = self._costs.get((row, hashes[0]), {})
            self._studies[row] = optuna.create_study(
                study_name=self._study_names[row],
                storage=storage,
                directions=[StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * len(costs)],
                load_if_exists=True,
            )
        study = self._studies[row]
        existing = {trial.user_attrs.get(HASH): trial for trial in study.get_trials(deepcopy=False)}
        for trial_settings, hash_ in zip(settings, hashes, strict=True):
            trial = existing.get(hash_)
            if trial is None or trial.state.name == "FAIL":
                trial = self._add_trial(study, trial_settings, space, hash_, failed=trial)
            if trial.state.name in UNFINISHED:
                self._running[row, hash_] = trial._trial_id
        self._record_heartbeat()

    def _add_trial(
        self,
        study: Any,
        settings: Settings,
        space: Mapping[str, Search],
        hash_: str,
        *,
        failed: FrozenTrial | None,
    ) -> FrozenTrial:
        """Add a running trial, as a retry if it has failed before."""
        import optuna

        system_attrs = {} if failed is None else {"failed_trial": failed.number, **failed.system_attrs}
        if failed is not None:
            system_attrs["retry_history"] = [*failed.system_attrs.get("retry_history", []), failed.number]
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params=snapped(settings, space),
                distributions=distributions(space),
                user_attrs={HASH: hash_},
                system_attrs=system_attrs,
            )
        )
        trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
        return next(trial for trial in reversed(trials) if trial.user_attrs.get(HASH) == hash_)

    def _write_result(self, row: str, result: RunResult) -> None:
        from optuna.trial import TrialState

        trial = self._running.get((row, result.hash))
        if trial is None:
            return
        storage = self._open_storage()
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
        del self._running[row, result.hash]

    def _open_storage(self) -> BaseStorage:
        if self._storage is None:
            self._storage = open_storage(self._location)
        return self._storage

    def _reset_connection(self) -> None:
        """Drop the storage after a failure; the next call opens it again."""
        self._storage, self._studies = None, {}

    def _record_heartbeats(self) -> None:
        while not self._closed.wait(HEARTBEAT_INTERVAL):
            with suppress(Exception):  # the next heartbeat may succeed
                self._record_heartbeat()

    def _record_heartbeat(self) -> None:
        from optuna.storages import RDBStorage

        if isinstance(self._storage, RDBStorage):
            for trial in list(self._running.values()):
                self._storage.record_heartbeat(trial)


def _without_password(storage: str) -> str:
    scheme, sign, rest = storage.rpartition("@")
    return f"{scheme.split('://')[0]}://…@{rest}" if sign else storage
