"""Mirror of a study's trials in an Optuna storage, for dashboards and other programs.

The settings and numbers of the trials follow from the study's seed and the results on disk (see `search`).
They are never read from the storage, so an unavailable database does not affect a study, and a lost one is
filled again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from tal_bench.config import Objective, Search, Settings, content_hash
from tal_bench.results.records import RunResult
from tal_bench.tuning.search import DIRECTIONS, Trial, distributions, frozen, snapped
from tal_bench.tuning.storage import OFF, open_storage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HASH = "tal_bench.hash"
"""User attribute of a trial with the hash of its run."""


@dataclass(frozen=True)
class _RowSearch:
    """Search of a row, which an Optuna study shows.

    Attributes:
        name: Name of the Optuna study.
        space: Search space of each setting.
        trials: Hash of the run to settings and costs of every trial, in the order of their numbers.
    """

    name: str
    space: Mapping[str, Search]
    trials: dict[str, tuple[Settings, Mapping[str, float]]] = field(default_factory=dict)


class TrialMirror:
    """Makes an Optuna storage show the trials of a study, with one Optuna study per row.

    A trial that a killed process left RUNNING is continued under its number. If another program has marked it
    as failed because of its heartbeat, it is added again as a retry, as Optuna's
    `RetryHeartbeatStaleTrialCallback` does.

    Args:
        storage: Database URL, path of a journal file (see `open_storage`), or `off`.
        study: Prefix of the names of the Optuna studies.
    """

    def __init__(self, storage: str, study: str) -> None:
        self.storage, self._study = storage, study
        self._searches: dict[str, _RowSearch] = {}
        self._results: dict[str, RunResult] = {}

    def generation_started(
        self,
        row: str,
        space: Mapping[str, Search],
        settings: Sequence[Settings],
        hashes: Sequence[str],
        costs: Sequence[Mapping[str, float]],
    ) -> None:
        """Note the trials of a generation for the next `sync`.

        Args:
            row: Name of the tuned row.
            space: Search space of each setting.
            settings: Settings of the trials, in the order of their numbers.
            hashes: Hashes of the trials' runs.
            costs: Costs of the trials' architectures for each objective other than mAP.
        """
        search = content_hash([hashes[0], sorted(space)], digits=8)  # distinguishes searches of the same row
        found = self._searches.get(row) or _RowSearch(f"{self._study}/{row}/{search}", space)
        found.trials.update(zip(hashes, zip(settings, costs, strict=True), strict=True))
        self._searches[row] = found  # `sync`, in another thread, sees no search without trials

    def run_ended(self, result: RunResult) -> None:
        """Note the result of a trial for the next `sync`; other runs are ignored there."""
        self._results[result.hash] = result

    def sync(self) -> None:
        """Send the trials that the storage lacks: running ones, and the results of ended ones.

        Raises:
            Exception: The storage cannot be written; the type depends on its database.
        """
        if self.storage == OFF or not self._searches:
            return
        with open_storage(self.storage) as storage:
            for search in list(self._searches.values()):
                self._sync_search(storage, search)

    def _sync_search(self, storage: BaseStorage, search: _RowSearch) -> None:
        from optuna.storages import RDBStorage

        _, costs = next(iter(search.trials.values()))
        objective = cast("list[Objective]", ["map", *costs])
        study = _study_id(storage, search.name, objective)
        known = {t.user_attrs.get(HASH): t for t in storage.get_all_trials(study, deepcopy=False)}
        for hash_ in list(search.trials):
            found, wanted = known.get(hash_), self._wanted(search, hash_, objective)
            running = None if found is None or found.state.is_finished() else found._trial_id
            if found is None or found.state.name == "FAIL" != wanted.state.name:
                wanted.system_attrs = {} if found is None else _retry_of(found)
                running = storage.create_new_trial(study, template_trial=wanted)
            elif running is not None and wanted.state.is_finished():
                _end(storage, running, wanted)
            if running is not None and not wanted.state.is_finished() and isinstance(storage, RDBStorage):
                storage.record_heartbeat(running)

    def _wanted(self, search: _RowSearch, hash_: str, objective: Sequence[Objective]) -> FrozenTrial:
        """Return a trial as the storage should show it."""
        from optuna.trial import TrialState, create_trial

        (settings, costs), result = search.trials[hash_], self._results.get(hash_)
        space = distributions(search.space)
        if result is not None:
            trial = frozen(Trial(settings, result, costs), search.space, space, objective)
        else:
            params = snapped(settings, search.space)
            trial = create_trial(state=TrialState.RUNNING, params=params, distributions=space)
        trial.user_attrs = {HASH: hash_, **({"reason": result.error} if result and result.error else {})}
        return trial


def _study_id(storage: BaseStorage, name: str, objective: Sequence[Objective]) -> int:
    """Return the id of an Optuna study, which is created if missing."""
    from optuna.study import StudyDirection

    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        directions = [StudyDirection[DIRECTIONS[name].upper()] for name in objective]
        return storage.create_new_study(directions, name)


def _end(storage: BaseStorage, trial: int, wanted: FrozenTrial) -> None:
    """Write the result of a running trial, its state last: until then a later call repeats it."""
    for epoch, value in wanted.intermediate_values.items():
        storage.set_trial_intermediate_value(trial, epoch, value)
    for name, text in wanted.user_attrs.items():
        storage.set_trial_user_attr(trial, name, text)
    storage.set_trial_state_values(trial, wanted.state, wanted.values)


def _retry_of(failed: FrozenTrial) -> dict[str, Any]:
    """Return the attributes by which Optuna knows a trial as a retry of a failed one."""
    history = [*failed.system_attrs.get("retry_history", []), failed.number]
    return {"failed_trial": failed.number, **failed.system_attrs, "retry_history": history}
