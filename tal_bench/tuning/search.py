"""What to try next: an Optuna sampler, asked generation by generation so that parallelism changes nothing.

The proposals of a generation depend on the study's seed, the row, and the trials of completed generations;
not on the number of workers or on which of them is faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tal_bench.config import Objective, Pruner, Range, Sampler, Search, Settings, choices, content_hash
from tal_bench.results.records import RunResult

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

STARTUP = 4
"""Random trials before TPE models anything; few, because budgets are small."""
POPULATION = 8
"""Trials of a generation of NSGA-II, which is not a generation of a study."""
DIRECTIONS: dict[Objective, Literal["maximize", "minimize"]] = {
    "map": "maximize",
    "gmacs": "minimize",
    "params": "minimize",
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a study searches, the same in every row; fields as in `StudySpec`.

    Attributes:
        objective: what is optimised.
        sampler: proposes.
        pruner: ends hopeless trials.
        search: setting to the values to choose from, in place of the declared ones.
        patience: generations without anything better after which a search ends.
        start: row to settings that are tried first.
    """

    objective: tuple[Objective, ...] = ("map",)
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    search: Mapping[str, Search] = field(default_factory=dict)
    patience: int | None = None
    start: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def rule(self) -> Pruner:
        """What may end trials early; a front has no order by which one could be hopeless."""
        return self.pruner if len(self.objective) == 1 else "none"


@dataclass(frozen=True, slots=True)
class Trial:
    """A tried setting and what came of it.

    Attributes:
        settings: by name.
        result: of the run.
        costs: of its architecture, one for each objective besides the mAP.
    """

    settings: Settings
    result: RunResult
    costs: Mapping[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it has a score."""
        return self.result.status == "finished"

    @property
    def curve(self) -> dict[int, float]:
        """Epoch to validation mAP."""
        return {r.epoch: r.validation_map for r in self.result.history if r.validation_map is not None}

    def values(self, objective: Sequence[Objective]) -> list[float]:
        """What the trial reached, in the order of the objectives."""
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
    """Settings of the next generation.

    Args:
        past: trials of all completed generations, in the order of their numbers.
        space: names and ranges.
        first: settings of the first trials, the defaults for instance; a grid has no use for them.
        count: size of the generation.
        seed: of the study.
        row: name of the row, so that rows draw different numbers.
        tuning: sampler and objectives.
        generation: size of the completed ones, but the last.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = distributions(space)
    directions = [DIRECTIONS[name] for name in tuning.objective]
    begun = [] if tuning.sampler == "grid" else [{k: s[k] for k in space} for s in first]
    given = begun[len(past) : len(past) + count]
    if tuning.sampler in ("tpe", "random"):
        number = int(content_hash([seed, row, len(past)], digits=8), 16) % 2**31
        study = optuna.create_study(directions=directions, sampler=_sampler(tuning, number, space))
        for trial in past:
            study.add_trial(_frozen(trial, space, known, tuning.objective))
    else:
        number = int(content_hash([seed, row], digits=8), 16) % 2**31
        study = optuna.create_study(directions=directions, sampler=_sampler(tuning, number, space))
        for settings in begun:
            study.enqueue_trial(snapped(settings, space))
        for start in range(0, len(past), generation):
            _replay(study, past[start : start + generation], known, tuning)
        for _ in given:
            study.ask(known)
    return given + [dict(study.ask(known).params) for _ in range(count - len(given))]


def _sampler(tuning: Tuning, seed: int, space: Mapping[str, Search]) -> BaseSampler:
    from optuna import samplers

    if tuning.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    if tuning.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    if tuning.sampler == "grid":
        return samplers.GridSampler({name: list(choices(v)) for name, v in space.items()}, seed=seed)
    return samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)


def distributions(space: Mapping[str, Search]) -> dict[str, BaseDistribution]:
    """A space as Optuna takes it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(v.low, v.high, log=v.log, step=v.step)
        if isinstance(v, Range)
        else CategoricalDistribution(v)
        for name, v in space.items()
    }


def snapped(settings: Settings, space: Mapping[str, Search]) -> Settings:
    """Settings as points of the space: defaults and those of an earlier study may lie beside it."""
    return {
        name: v.nearest(settings[name])
        if isinstance(v, Range)
        else min(v, key=lambda x: abs(x - settings[name]))
        for name, v in space.items()
    }


def _frozen(
    trial: Trial,
    space: Mapping[str, Search],
    known: Mapping[str, Any],
    objective: Sequence[Objective],
) -> FrozenTrial:
    """The trial as Optuna keeps it."""
    import optuna
    from optuna.trial import TrialState

    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = states.get(trial.result.status, TrialState.FAIL)
    return optuna.trial.create_trial(
        state=state,
        values=trial.values(objective) if state == TrialState.COMPLETE else None,
        params=snapped(trial.settings, space),
        distributions=dict(known),
        intermediate_values=trial.curve if len(objective) == 1 else None,
    )


def _replay(study: Study, past: Sequence[Trial], known: dict[str, Any], tuning: Tuning) -> None:
    """Let a sampler that keeps a state see a completed generation as it went: first asked, then told."""
    from optuna.trial import TrialState

    for trial, asked in [(trial, study.ask(known)) for trial in past]:
        if trial.finished:
            study.tell(asked, trial.values(tuning.objective))
        else:
            study.tell(asked, state=TrialState.FAIL)


def best(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest validation mAP; of equals the earliest; none if none finished."""
    finished = [t for t in trials if t.finished]
    return max(finished, key=lambda t: t.result.metrics["map_avg"]) if finished else None


def front(trials: Sequence[Trial], objective: Sequence[Objective]) -> list[Trial]:
    """Finished trials that no other beats in one objective without losing in another.

    Of equals the earliest; in the order of the mAP, the lowest first.
    """
    signs = [1.0 if DIRECTIONS[name] == "maximize" else -1.0 for name in objective]
    points = [
        (trial, tuple(s * v for s, v in zip(signs, trial.values(objective), strict=True)))
        for trial in trials
        if trial.finished
    ]

    def beaten(at: int) -> bool:
        mine = points[at][1]
        return any(
            all(a >= b for a, b in zip(theirs, mine, strict=True)) and (theirs != mine or other < at)
            for other, (_, theirs) in enumerate(points)
            if other != at
        )

    kept = [trial for at, (trial, _) in enumerate(points) if not beaten(at)]
    return sorted(kept, key=lambda t: t.result.metrics["map_avg"])


def converged(trials: Sequence[Trial], tuning: Tuning, generation: int) -> bool:
    """Whether the last `patience` completed generations brought nothing better: no member of the front.

    With one objective, the front is the best trial.
    """
    if tuning.patience is None or len(trials) <= tuning.patience * generation:
        return False
    recent = {id(t) for t in trials[-tuning.patience * generation :]}
    return not any(id(t) in recent for t in front(trials, tuning.objective))
