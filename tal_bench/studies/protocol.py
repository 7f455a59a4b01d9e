"""Student rows as plans: a search on validation, then training and testing with the final seeds.

A row is a registered variant, or one that a study declares: another student or teacher, terms left out,
shares of teachers, settings that are held. With several objectives a search gives a front, and every member
of the front is a row.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tal_bench.config import (
    DetectorSpec,
    DistillSpec,
    Phase,
    RunSpec,
    Search,
    Settings,
    TeacherUse,
    grid_size,
)
from tal_bench.distill.variants import Variant
from tal_bench.models.registry import get_model
from tal_bench.models.size_space import size_space, sizes
from tal_bench.profiling.model import count
from tal_bench.results.records import RowRecord, RunResult, SearchRecord
from tal_bench.studies.run import Job
from tal_bench.studies.run_specs import TUNING_SEED, Context, modalities, teacher_model, tuned_teacher
from tal_bench.studies.scheduler import Plan
from tal_bench.tuning.search import Trial, best, converged, front, propose

TeachersOf = Callable[[Phase, int], dict[str, RunSpec]]
"""Protocol and seed to the runs of a row's teachers by role."""


@dataclass(frozen=True)
class StudentRow:
    """A student row as it was asked for.

    Attributes:
        name: in the table.
        variant: with the terms and shares of this row.
        context: with its student and teacher.
        held: settings that are not tuned.
    """

    name: str
    variant: Variant
    context: Context
    held: Settings = field(default_factory=dict)

    @property
    def space(self) -> dict[str, Search]:
        """Settings that are searched."""
        tuning, declared = self.context.tuning, self._declared()
        if len(tuning.objective) > 1:
            declared |= self._sizes()
        if tuning.sampler == "grid":
            declared = {}
        for name, values in tuning.search.items():
            if name in self.known:
                declared[name] = values
        return {name: values for name, values in declared.items() if name not in self.held}

    @property
    def defaults(self) -> Settings:
        """What the searched settings are without a search."""
        every = self.variant.defaults() | sizes(
            self.context.architecture(self.context.student), self._sizes()
        )
        return {name: every[name] for name in self.space}

    @property
    def trials(self) -> int:
        """How many a search has: the budget's, at most the points of a grid, none without a search."""
        tuning = self.context.tuning
        if not self.space:
            return 0
        if tuning.sampler == "grid":
            return min(grid_size(self.space), self.context.budget.trials)
        return self.context.budget.trials

    def _declared(self) -> dict[str, Search]:
        return dict(self.variant.search_space())

    def _sizes(self) -> dict[str, Search]:
        context = self.context
        model = get_model(context.student)
        architecture = context.architecture(context.student)
        return dict(size_space(model, architecture, model.size or context.dataset.size))

    @property
    def known(self) -> dict[str, Search]:
        """Settings that can be searched or held, with their declared ranges."""
        return self._declared() | self._sizes()


@dataclass(frozen=True)
class Taught:
    """A row's teachers.

    Attributes:
        models: role to registered model.
        runs: their runs.
    """

    models: dict[str, str]
    runs: TeachersOf


def student_row(row: StudentRow) -> Plan:
    """Tune on validation, then train and test with all final seeds."""
    taught = yield from _taught(row)
    trials = yield from _searched(row, taught)
    found = best(trials)
    settings = found.settings if found else row.held | row.defaults
    return (
        yield from _tested(
            row,
            taught,
            settings,
            trials=tuple(dict.fromkeys(t.result.hash for t in trials)),
            chosen=found.result.hash if found else "",
        )
    )


def student_search(row: StudentRow) -> Plan:
    """Search for a front on validation; its members are tested by `member_row`."""
    taught = yield from _taught(row)
    trials = yield from _searched(row, taught)
    context = row.context
    distinct = list({t.result.hash: t for t in trials}.values())
    return SearchRecord(
        name=row.name,
        kind="student",
        model=context.student,
        modalities=modalities(context.student, context),
        teachers=taught.models,
        trials=tuple(t.result.hash for t in distinct),
        objective=context.tuning.objective,
        tried=tuple(t.settings for t in distinct),
        values=tuple(tuple(t.values(context.tuning.objective)) if t.finished else () for t in distinct),
        front=tuple(t.result.hash for t in front(distinct, context.tuning.objective)),
    )


def member_row(row: StudentRow, settings: Settings, chosen: str) -> Plan:
    """Train and test a member of a front with all final seeds."""
    taught = yield from _taught(row)
    return (yield from _tested(row, taught, settings, chosen=chosen))


def _taught(row: StudentRow) -> Generator[Sequence[Job], list[RunResult], Taught]:
    """The settings of the row's teachers."""
    context = row.context
    models = {role: teacher_model(ref, context) for role, ref in row.variant.teachers.items()}
    rates: dict[str, Settings] = {}
    for model in dict.fromkeys(models.values()):
        rates[model] = yield from tuned_teacher(context, model)

    def runs(phase: Phase, seed: int) -> dict[str, RunSpec]:
        return {role: context.run(model, phase, seed, rates[model]) for role, model in models.items()}

    return Taught(models, runs)


def _searched(row: StudentRow, taught: Taught) -> Generator[Sequence[Job], list[RunResult], list[Trial]]:
    """The trials of a row, its teachers' tuning runs before them."""
    context, space, tuning = row.context, row.space, row.context.tuning
    if not row.trials:
        return []
    used = taught.runs("tuning", TUNING_SEED)
    if used:
        yield [context.job(spec) for spec in used.values()]
    begun = [row.defaults]
    if row.name in tuning.start:
        begun.insert(0, row.defaults | {k: v for k, v in tuning.start[row.name].items() if k in space})
    trials: list[Trial] = []
    generation = context.budget.generation
    while len(trials) < row.trials and not converged(trials, tuning, generation):
        proposed = propose(
            trials,
            space,
            begun,
            count=min(generation, row.trials - len(trials)),
            seed=context.seed,
            row=row.name,
            tuning=tuning,
            generation=generation,
        )
        tried = [row.held | row.defaults | settings for settings in proposed]
        specs = [distilled(row, settings, "tuning", TUNING_SEED, used) for settings in tried]
        costs = [_costs(row, spec) for spec in specs]
        jobs = context.trials(specs, trials)
        if context.ledger is not None:
            context.ledger.generation_started(
                row.name, space, proposed, [job.spec.hash for job in jobs], costs
            )
        results = yield jobs
        trials += [Trial(*one) for one in zip(tried, results, costs, strict=True)]
    return trials


def _tested(
    row: StudentRow, taught: Taught, settings: Settings, trials: tuple[str, ...] = (), chosen: str = ""
) -> Plan:
    """Final runs with these settings, after those of the teachers."""
    context = row.context
    seeds = tuple(range(context.budget.seeds))
    per_seed = [taught.runs("final", seed if context.budget.paired_teachers else 0) for seed in seeds]
    if taught.models:
        yield [context.job(spec) for used in per_seed for spec in used.values()]
    finals = [
        distilled(row, settings, "final", seed, used) for seed, used in zip(seeds, per_seed, strict=True)
    ]
    yield [context.job(spec) for spec in finals]
    return RowRecord(
        name=row.name,
        kind="student",
        model=context.student,
        modalities=modalities(context.student, context),
        teachers=taught.models,
        settings=settings,
        trials=trials,
        chosen=chosen,
        finals=tuple(spec.hash for spec in finals),
        seeds=seeds,
    )


def distilled(
    row: StudentRow,
    settings: Settings,
    phase: Phase,
    seed: int,
    teachers: dict[str, RunSpec],
) -> RunSpec:
    """The student's run with these settings."""
    context, variant = row.context, row.variant
    base = context.run(context.student, phase, seed, settings)
    if not variant.terms:
        return base
    spec = DistillSpec(
        teachers={
            role: TeacherUse(run=run.hash, model=run.model, weight=variant.teachers[role].weight)
            for role, run in teachers.items()
        },
        terms=tuple(
            use.model_copy(update={"weight": settings.get(f"weight/{use.name}", use.weight)})
            for use in variant.terms
        ),
        soft_weight=settings.get("soft_weight", variant.soft_weight),
        temperature=settings.get("temperature", variant.temperature),
        student_init=variant.student_init,
        precision=context.teacher_precision,
    )
    return base.model_copy(update={"distill": spec})


def _costs(row: StudentRow, spec: RunSpec) -> dict[str, float]:
    """What the objectives besides the mAP say of a run's architecture; nothing is measured, only counted."""
    wanted = [name for name in row.context.tuning.objective if name != "map"]
    if not wanted:
        return {}
    params, macs = _counted(spec.model, spec.detector.model_dump_json(), spec.dataset.max_length)
    known = {"params": float(params), "gmacs": macs / 1e9}
    return {name: known[name] for name in wanted}


@lru_cache(maxsize=256)
def _counted(model: str, detector: str, frames: int) -> tuple[int, int]:
    return count(get_model(model), DetectorSpec.model_validate_json(detector), frames)
