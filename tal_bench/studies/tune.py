"""What to try next: Optuna's TPE, asked generation by generation so that parallelism changes nothing.

The proposals of a generation depend on the study's seed, the row, and the trials of completed generations;
not on the number of workers or on which of them is faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tal_bench.config import Range, content_hash
from tal_bench.results import RunResult

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STARTUP = 4
"""Random trials before TPE models anything; few, because budgets are small."""
Settings = dict[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A tried setting and what came of it."""

    settings: Settings
    result: RunResult

    @property
    def curve(self) -> dict[int, float]:
        """Epoch to validation mAP."""
        return {r.epoch: r.validation_map for r in self.result.history if r.validation_map is not None}


def propose(
    past: Sequence[Trial], space: Mapping[str, Range], defaults: Settings, *, count: int, seed: int, row: str
) -> list[Settings]:
    """Settings of the next generation; the very first are the defaults.

    Args:
        past: trials of all completed generations, in the order of their numbers.
        space: names and ranges.
        defaults: settings of trial 0.
        count: size of the generation.
        seed: of the study.
        row: name of the row, so that rows draw different numbers.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = distributions(space)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=STARTUP, seed=int(content_hash([seed, row, len(past)], digits=8), 16) % 2**31
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in past:
        study.add_trial(_frozen(trial, known))
    if not past:
        study.enqueue_trial(defaults)
    return [dict(study.ask(known).params) for _ in range(count)]


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """A space as Optuna takes it."""
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(r.low, r.high, log=r.log) for name, r in space.items()}


def _frozen(trial: Trial, distributions: Mapping[str, Any]) -> FrozenTrial:
    """The trial as Optuna keeps it."""
    import optuna
    from optuna.trial import TrialState

    state = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(
        trial.result.status, TrialState.FAIL
    )
    return optuna.trial.create_trial(
        state=state,
        value=trial.result.metrics["map_avg"] if state == TrialState.COMPLETE else None,
        params=trial.settings,
        distributions=dict(distributions),
        intermediate_values=trial.curve,
    )


def best(trials: Sequence[Trial], defaults: Settings) -> Settings:
    """Settings with the highest validation mAP; of equals the earliest; the defaults if none finished."""
    finished = [t for t in trials if t.result.status == "finished"]
    if not finished:
        return defaults
    return max(finished, key=lambda t: t.result.metrics["map_avg"]).settings
