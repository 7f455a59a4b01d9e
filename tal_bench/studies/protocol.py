"""Steps of a row: teachers, search on validation, final seeds, one test.

A row is a generator that yields the jobs it needs next and receives their results; `scheduler` interleaves
the rows over an executor.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tal_bench.config import Phase, RunSpec, Search, Settings
from tal_bench.profiling.model import count_registered
from tal_bench.results.records import RowRecord, RunResult, SearchRecord
from tal_bench.studies.plan import LabelsRow, StudentRow, StudyPlan
from tal_bench.studies.run import Job, JobFactory
from tal_bench.studies.run_specs import TUNING_SEED, RunSpecs
from tal_bench.tuning.search import Trial, best, confirmed_map, converged, front, propose, ranked

RowSteps = Generator[Sequence[Job], list[RunResult], RowRecord]
"""Yields jobs, receives their results, returns the finished row."""


class GenerationCallback(typing.Protocol):
    """Called when a generation of trials begins; see `TrialMirror.generation_started`."""

    def __call__(
        self,
        row: str,
        space: Mapping[str, Search],
        settings: Sequence[Settings],
        hashes: Sequence[str],
        costs: Sequence[Mapping[str, float]],
    ) -> None:
        """Record the trials."""


@dataclass(frozen=True)
class Protocol:
    """How the rows of a plan are carried out.

    Attributes:
        plan: Plan of the study.
        jobs: Makes jobs of run specs.
        on_generation: Called when a generation of trials begins.
        on_row: Called with the record of a row as far as it is known, before its next runs.
    """

    plan: StudyPlan
    jobs: JobFactory
    on_generation: GenerationCallback | None = None
    on_row: Callable[[RowRecord], None] = lambda row: None

    @property
    def run_specs(self) -> RunSpecs:
        """Builder of the plan's run specs."""
        return self.plan.run_specs

    def rows(self) -> list[tuple[str, RowSteps]]:
        """Return the steps of every row by its name, the most urgent first."""
        search = self.search_row if len(self.plan.tuning.objective) > 1 else self.student_row
        return [
            (row.name, self.labels_row(row) if isinstance(row, LabelsRow) else search(row))
            for row in self.plan.order
        ]

    def front_rows(self, found: Mapping[str, RowRecord]) -> dict[str, list[tuple[str, RowSteps]]]:
        """Return the steps of the members of every front, by the name of the row that was searched."""
        return {
            name: [(row.name, self.front_member(row, settings, chosen)) for row, settings, chosen in members]
            for name, members in self.plan.front_members(found).items()
        }

    def labels_row(self, row: LabelsRow) -> RowSteps:
        """Train a model on labels with all final seeds."""
        settings = yield from self._teacher_settings(row.model, row.rates)
        specs = [self.run_specs.on_labels(row.model, "final", seed, settings) for seed in row.seeds]
        record = planned_record(row, self.run_specs).model_copy(
            update={
                "settings": settings,
                "finals": tuple(spec.hash for spec in specs),
                "training_gmacs": self._training_gmacs(row.model, (), specs),
            }
        )
        self.on_row(record)
        yield self._jobs(specs)
        return record

    def student_row(self, row: StudentRow) -> RowSteps:
        """Tune on validation, then train and test with all final seeds."""
        rates = yield from self._teacher_rates(row)
        trials = yield from self._search(row, rates)
        found, confirmations = yield from self._confirm(row, rates, trials)
        return (
            yield from self._final(
                row,
                rates,
                found.settings if found else row.held | row.defaults,
                trials=tuple(dict.fromkeys(trial.result.hash for trial in trials)),
                confirmations=confirmations,
                chosen=found.result.hash if found else "",
            )
        )

    def search_row(self, row: StudentRow) -> RowSteps:
        """Search for a front on validation; `front_member` tests its members."""
        rates = yield from self._teacher_rates(row)
        trials = yield from self._search(row, rates)
        objective = self.plan.tuning.objective
        distinct = list({trial.result.hash: trial for trial in trials}.values())
        record = SearchRecord(
            name=row.name,
            kind="student",
            model=row.student,
            modalities=self.run_specs.modalities(row.student),
            teachers=row.teachers,
            trials=tuple(t.result.hash for t in distinct),
            objective=objective,
            tried=tuple(t.settings for t in distinct),
            values=tuple(tuple(t.values(objective)) if t.finished else () for t in distinct),
            front=tuple(t.result.hash for t in front(distinct, objective)),
        )
        self.on_row(record)
        return record

    def front_member(self, row: StudentRow, settings: Settings, chosen: str) -> RowSteps:
        """Train and test a member of a front with all final seeds."""
        rates = yield from self._teacher_rates(row)
        return (yield from self._final(row, rates, settings, chosen=chosen))

    def _teacher_settings(
        self, model: str, rates: Sequence[float]
    ) -> Generator[Sequence[Job], list[RunResult], Settings]:
        """Choose a teacher's learning rate: the default, or the best of the tried multiples on validation."""
        if not rates or self.run_specs.is_imported(model):
            return {}
        specs = [self.run_specs.on_labels(model, "tuning", TUNING_SEED, {"lr": rate}) for rate in rates]
        results = yield self._jobs(specs)
        trials = [Trial({"lr": rate}, result) for rate, result in zip(rates, results, strict=True)]
        found = best(trials)
        return found.settings if found else {"lr": 1.0}

    def _teacher_rates(
        self, row: StudentRow
    ) -> Generator[Sequence[Job], list[RunResult], dict[str, Settings]]:
        """Choose the settings of every teacher of a row."""
        rates: dict[str, Settings] = {}
        for model in dict.fromkeys(row.teachers.values()):
            rates[model] = yield from self._teacher_settings(model, row.rates)
        return rates

    def _search(
        self, row: StudentRow, rates: Mapping[str, Settings]
    ) -> Generator[Sequence[Job], list[RunResult], list[Trial]]:
        """Run the trials of a row, generation by generation, after its teachers' tuning runs."""
        if not row.trials:
            return []
        plan, tuning = self.plan, self.plan.tuning
        teachers = self._teacher_runs(row, rates, "tuning", TUNING_SEED)
        if teachers:
            yield self._jobs(list(teachers.values()))
        trials: list[Trial] = []
        size = self.run_specs.budget.generation
        while len(trials) < row.trials and not converged(trials, tuning, size):
            proposed = propose(
                trials,
                row.space,
                row.first,
                count=min(size, row.trials - len(trials)),
                seed=plan.spec.seed,
                row=row.name,
                tuning=tuning,
                generation=size,
            )
            settings = [row.held | row.defaults | values for values in proposed]
            specs = [
                self.run_specs.distilled(
                    row.student, row.variant, "tuning", TUNING_SEED, values, teachers, row.epochs_factor
                )
                for values in settings
            ]
            costs = [_architecture_costs(spec, tuning.objective) for spec in specs]
            jobs = self.jobs.trials(specs, trials, tuning.rule)
            if self.on_generation is not None:
                self.on_generation(row.name, row.space, proposed, [job.spec.hash for job in jobs], costs)
            hashes = [*(trial.result.hash for trial in trials), *(job.spec.hash for job in jobs)]
            known = planned_record(row, self.run_specs)
            self.on_row(known.model_copy(update={"trials": tuple(dict.fromkeys(hashes))}))
            results = yield jobs
            trials += [Trial(*values) for values in zip(settings, results, costs, strict=True)]
        return trials

    def _confirm(
        self, row: StudentRow, rates: Mapping[str, Settings], trials: Sequence[Trial]
    ) -> Generator[Sequence[Job], list[RunResult], tuple[Trial | None, tuple[str, ...]]]:
        """Train the best trials with further seeds, and choose the one with the best mean on validation.

        The score of one seed is noisy, and the best of several noisy scores is too high. Settings whose
        training fails with a further seed are chosen only if every candidate has such a failure.

        Returns:
            The chosen trial, None if none finished, and the hashes of the further runs.
        """
        candidates = ranked(trials)[: row.confirmed]
        if len(candidates) < 2 or not row.confirm_seeds:
            return best(trials), ()
        teachers = self._teacher_runs(row, rates, "tuning", TUNING_SEED)
        specs = [
            self.run_specs.distilled(
                row.student, row.variant, "tuning", seed, trial.settings, teachers, row.epochs_factor
            )
            for trial in candidates
            for seed in row.confirm_seeds
        ]
        results = yield self._jobs(specs)
        count = len(row.confirm_seeds)
        scores = [
            confirmed_map([trial.result, *results[k * count : (k + 1) * count]])
            for k, trial in enumerate(candidates)
        ]
        return candidates[scores.index(max(scores))], tuple(spec.hash for spec in specs)

    def _final(
        self,
        row: StudentRow,
        rates: Mapping[str, Settings],
        settings: Settings,
        trials: tuple[str, ...] = (),
        confirmations: tuple[str, ...] = (),
        chosen: str = "",
    ) -> RowSteps:
        """Train and test with all final seeds, after the final runs of the teachers."""
        teachers = [self._teacher_runs(row, rates, "final", seed) for seed in row.teacher_seeds]
        if row.teachers:
            yield self._jobs([spec for runs in teachers for spec in runs.values()])
        specs = [
            self.run_specs.distilled(
                row.student, row.variant, "final", seed, settings, runs, row.epochs_factor
            )
            for seed, runs in zip(row.seeds, teachers, strict=True)
        ]
        record = planned_record(row, self.run_specs).model_copy(
            update={
                "settings": settings,
                "trials": trials,
                "confirmations": confirmations,
                "chosen": chosen,
                "finals": tuple(spec.hash for spec in specs),
                "training_gmacs": self._training_gmacs(row.student, row.teachers.values(), specs),
            }
        )
        self.on_row(record)
        yield self._jobs(specs)
        return record

    def _training_gmacs(
        self, student: str, teachers: Iterable[str], specs: Sequence[RunSpec]
    ) -> float | None:
        """Count the GMACs of a final training per training video; None for a model from a file."""
        if not specs or self.run_specs.is_imported(student):
            return None
        return specs[0].train.total_epochs * self.run_specs.step_macs(student, teachers) / 1e9

    def _teacher_runs(
        self, row: StudentRow, rates: Mapping[str, Settings], phase: Phase, seed: int
    ) -> dict[str, RunSpec]:
        """Return the run of every teacher, by its role."""
        return {
            role: self.run_specs.on_labels(model, phase, seed, rates[model])
            for role, model in row.teachers.items()
        }

    def _jobs(self, specs: Sequence[RunSpec]) -> list[Job]:
        return [self.jobs.job(spec) for spec in specs]


def planned_record(row: LabelsRow | StudentRow, run_specs: RunSpecs) -> RowRecord:
    """Return the record of a row before its first run."""
    model = row.model if isinstance(row, LabelsRow) else row.student
    return RowRecord(
        name=row.name,
        kind=row.kind if isinstance(row, LabelsRow) else "student",
        model=model,
        modalities=run_specs.modalities(model),
        teachers={} if isinstance(row, LabelsRow) else row.teachers,
        seeds=row.seeds,
    )


def _architecture_costs(spec: RunSpec, objective: Sequence[str]) -> dict[str, float]:
    """Count what the objectives other than the mAP need; nothing is measured."""
    names = [name for name in objective if name != "map"]
    if not names:
        return {}
    params, macs = count_registered(spec.model, spec.detector.model_dump_json(), spec.dataset.max_length)
    known = {"params": float(params), "gmacs": macs / 1e9}
    return {name: known[name] for name in names}
