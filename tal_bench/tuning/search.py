"""Proposal of trials by an Optuna sampler, generation by generation.

The proposals of a generation depend only on the study's seed, the row, and the trials of completed
generations, not on the number or speed of the workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from tal_bench.config import Objective, Pruner, Range, Sampler, Search, Settings, choices, content_hash
from tal_bench.results.records import RunResult

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

STARTUP_TRIALS = 4
"""Number of random trials of TPE; small because budgets are small."""
POPULATION_SIZE = 8
"""Population size of NSGA-II, which differs from the size of a study's generation."""
DIRECTIONS: dict[Objective, Literal["maximize", "minimize"]] = {
    "map": "maximize",
    "gmacs": "minimize",
    "params": "minimize",
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """Tuning options of a study, shared by all rows; fields as in `StudySpec`.

    Attributes:
        objective: Objectives of the search.
        sampler: Name of the sampler.
        pruner: Name of the pruner.
        search: Search space of each setting, which replaces the declared one.
        patience: Number of generations without improvement after which a search ends; None for no limit.
        start: Settings of each row's first trial.
    """

    objective: tuple[Objective, ...] = ("map",)
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    search: Mapping[str, Search] = field(default_factory=dict)
    patience: int | None = None
    start: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def rule(self) -> Pruner:
        """Name of the effective pruner; `none` with several objectives, as Optuna cannot prune then."""
        return self.pruner if len(self.objective) == 1 else "none"


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings of a trial and their result.

    Attributes:
        settings: Value of each setting.
        result: Result of the run.
        costs: Cost of the architecture for each objective other than mAP.
    """

    settings: Settings
    result: RunResult
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the trial has a score."""
        return self.result.status == "finished"

    @property
    def curve(self) -> dict[int, float]:
        """Validation mAP by epoch."""
        return {r.epoch: r.validation_map for r in self.result.history if r.validation_map is not None}

    def values(self, objective: Sequence[Objective]) -> list[float]:
        """Return the objective values in the order of the objectives."""
        return [self.result.metrics["map_avg"] if name == "map" else self.costs[name] for name in objective]


def propose(
    past: Sequence[Trial],
    space: Mapping[str, Search],
    first: Sequence[Settings],
    *,
    count: int,
    seed: int,
    row: str,
    tuning: Tuning = Tuning(),
    generation: int = 4,
) -> list[Settings]:
    """Propose the settings of the next generation.

    Args:
        past: Trials of all completed generations, in the order of their numbers.
        space: Search space of each setting.
        first: Settings of the first trials, for instance the defaults; ignored by the grid sampler.
        count: Number of trials to propose.
        seed: Seed of the study.
        row: Name of the row, so that rows draw different random numbers.
        tuning: Tuning options of the study.
        generation: Size of the completed generations; the last one may be smaller.

    Returns:
        Settings of each trial.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space_distributions = distributions(space)
    directions = [DIRECTIONS[name] for name in tuning.objective]
    fixed = [] if tuning.sampler == "grid" else [{k: s[k] for k in space} for s in first]
    next_fixed = fixed[len(past) : len(past) + count]
    if tuning.sampler in ("tpe", "random"):
        number = int(content_hash([seed, row, len(past)], digits=8), 16) % 2**31
        study = optuna.create_study(directions=directions, sampler=_sampler(tuning, number, space))
        for trial in past:
            study.add_trial(frozen(trial, space, space_distributions, tuning.objective))
    else:
        number = int(content_hash([seed, row], digits=8), 16) % 2**31
        study = optuna.create_study(directions=directions, sampler=_sampler(tuning, number, space))
        for settings in fixed:
            study.enqueue_trial(snapped(settings, space))
        for start in range(0, len(past), generation):
            _replay(study, past[start : start + generation], space_distributions, tuning)
        for _ in next_fixed:
            study.ask(space_distributions)
    sampled = [study.ask(space_distributions).params for _ in range(count - len(next_fixed))]
    return next_fixed + [dict(settings) for settings in sampled]


def _sampler(tuning: Tuning, seed: int, space: Mapping[str, Search]) -> BaseSampler:
    from optuna import samplers

    if tuning.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if tuning.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=POPULATION_SIZE, seed=seed)
    if tuning.sampler == "grid":
        return samplers.GridSampler({name: list(choices(v)) for name, v in space.items()}, seed=seed)
    return samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)


def distributions(space: Mapping[str, Search]) -> dict[str, BaseDistribution]:
    """Convert a search space to Optuna's distributions."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(v.low, v.high, log=v.log, step=v.step)
        if isinstance(v, Range)
        else CategoricalDistribution(v)
        for name, v in space.items()
    }


def snapped(settings: Settings, space: Mapping[str, Search]) -> Settings:
    """Move settings to the nearest point of the space; defaults and earlier studies may lie outside of it."""
    return {
        name: v.nearest(settings[name])
        if isinstance(v, Range)
        else min(v, key=lambda x: abs(x - settings[name]))
        for name, v in space.items()
    }


def frozen(
    trial: Trial,
    space: Mapping[str, Search],
    space_distributions: Mapping[str, Any],
    objective: Sequence[Objective],
) -> FrozenTrial:
    """Convert a trial to Optuna's FrozenTrial."""
    import optuna
    from optuna.trial import TrialState

    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(trial.result.status, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        values=trial.values(objective) if state == TrialState.COMPLETE else None,
        params=snapped(trial.settings, space),
        distributions=dict(space_distributions),
        intermediate_values=trial.curve if len(objective) == 1 else None,
    )


def _replay(study: Study, past: Sequence[Trial], space_distributions: dict[str, Any], tuning: Tuning) -> None:
    """Replay a completed generation for a stateful sampler: ask for all trials, then tell their results."""
    from optuna.trial import TrialState

    for trial, asked in [(trial, study.ask(space_distributions)) for trial in past]:
        if trial.finished:
            study.tell(asked, trial.values(tuning.objective))
        else:
            study.tell(asked, state=TrialState.FAIL)


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the finished trial with the highest validation mAP, the earliest on ties, or None."""
    finished = [t for t in trials if t.finished]
    return max(finished, key=lambda t: t.result.metrics["map_avg"]) if finished else None


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials by descending validation mAP, each run once."""
    distinct = {t.result.hash: t for t in trials if t.finished}
    return sorted(distinct.values(), key=lambda t: -t.result.metrics["map_avg"])


def confirmed_map(results: Sequence[RunResult]) -> tuple[bool, float]:
    """Return whether all runs with the same settings finished, and the mean validation mAP of those that did.

    In this order settings whose training fails with some seed come after those that always train.
    """
    finished = [r.metrics["map_avg"] for r in results if r.status == "finished"]
    return len(finished) == len(results), fmean(finished)


def front(trials: Sequence[Trial], objective: Sequence[Objective]) -> list[Trial]:
    """Return the Pareto front of the finished trials in ascending order of mAP.

    Of trials with equal values, only the earliest is included.
    """
    signs = [1.0 if DIRECTIONS[name] == "maximize" else -1.0 for name in objective]
    points = [
        (trial, tuple(s * v for s, v in zip(signs, trial.values(objective), strict=True)))
        for trial in trials
        if trial.finished
    ]

    def dominated(index: int) -> bool:
        values = points[index][1]
        return any(
            all(a >= b for a, b in zip(others, values, strict=True)) and (others != values or other < index)
            for other, (_, others) in enumerate(points)
            if other != index
        )

    members = [trial for index, (trial, _) in enumerate(points) if not dominated(index)]
    return sorted(members, key=lambda t: t.result.metrics["map_avg"])


def converged(trials: Sequence[Trial], tuning: Tuning, generation: int) -> bool:
    """Return whether the last `patience` completed generations contributed no member of the front.

    With one objective, the front is the best trial.
    """
    if tuning.patience is None or len(trials) <= tuning.patience * generation:
        return False
    recent = {id(t) for t in trials[-tuning.patience * generation :]}
    return not any(id(t) in recent for t in front(trials, tuning.objective))
