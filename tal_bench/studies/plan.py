"""The plan of a study: its rows and the runs that they need, as one value.

Student rows, `none` included, are tuned with the same number of trials on a validation part of the training
videos. Every row is then trained on all training videos with the final seeds and tested once. The teachers of
tuning runs have not seen the validation videos either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Literal, NamedTuple

from tal_bench.config import (
    DetectorSpec,
    Phase,
    RowSpec,
    RunSpec,
    Search,
    Settings,
    StudySpec,
    choices,
    grid_size,
)
from tal_bench.distill.objective import MIX
from tal_bench.distill.variants import Variant, variants
from tal_bench.errors import InputError
from tal_bench.models.registry import get_model
from tal_bench.models.size_space import largest_sizes, short, size_space, sizes
from tal_bench.registry import did_you_mean
from tal_bench.results.records import RowRecord, SearchRecord
from tal_bench.studies.rows import INPUTS_ORDER, chosen_rows, without_branch
from tal_bench.studies.run_specs import TUNING_SEED, RunSpecs
from tal_bench.tuning.search import Tuning

LARGEST_GRID = 64
"""Points of a grid that are tried unless the number of trials is given."""


class PlannedRun(NamedTuple):
    """A run of the plan; rows that share a run have equal entries.

    Attributes:
        model: Registered name.
        phase: `tuning` or `final`.
        seed: Seed of the run.
        settings: What tells the run from others of the same model, phase and seed.
    """

    model: str
    phase: Phase
    seed: int
    settings: str = ""


@dataclass(frozen=True)
class LabelsRow:
    """A teacher or reference row: a model trained on labels.

    Attributes:
        name: Name in the table, which is the model's.
        kind: `teacher` where a student row learns from it.
        model: Registered name.
        rates: Multiples of the default learning rate that are tried on validation.
        seeds: Final seeds.
    """

    name: str
    kind: Literal["teacher", "reference"]
    model: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Runs that the row needs, in order."""
        return (
            *_rate_runs(self.model, self.rates),
            *(PlannedRun(self.model, "final", s) for s in self.seeds),
        )


@dataclass(frozen=True)
class StudentRow:
    """A student row.

    Attributes:
        name: Name in the table.
        student: Registered name.
        variant: Variant with the terms and shares of this row.
        teachers: Role to registered model.
        imported: Models among the teachers that come from a file.
        held: Settings that are not tuned.
        space: Settings that are searched, with their ranges.
        defaults: Values of the searched settings without a search.
        first: Settings of the first trials, where they are known before the search.
        trials: Number of trials; 0 where nothing is searched.
        confirmed: Number of best trials that are trained with further seeds before one is chosen.
        confirm_seeds: Seeds of these trainings.
        seeds: Final seeds; none for a search for a front.
        teacher_seeds: Seed of the teachers for each final seed.
        rates: Multiples of the default learning rate that are tried for every teacher on validation.
        epochs_factor: Factor on the number of epochs of the student's recipe.
    """

    name: str
    student: str
    variant: Variant
    teachers: dict[str, str]
    imported: frozenset[str]
    held: Settings
    space: dict[str, Search]
    defaults: Settings
    first: tuple[Settings, ...]
    trials: int
    confirmed: int
    confirm_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    teacher_seeds: tuple[int, ...]
    rates: tuple[float, ...]
    epochs_factor: float = 1.0

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Runs that the row needs, in order; early stopping or failed trials may leave some out."""
        runs: list[PlannedRun] = []
        for model in dict.fromkeys(self.teachers.values()):
            if model in self.imported:
                runs.append(PlannedRun(model, "final", 0))
                continue
            runs += _rate_runs(model, self.rates or ((1.0,) if self.trials else ()))
            runs += [PlannedRun(model, "final", seed) for seed in dict.fromkeys(self.teacher_seeds)]
        runs += [
            PlannedRun(self.student, "tuning", TUNING_SEED, self._trial(number))
            for number in range(self.trials)
        ]
        runs += [
            PlannedRun(self.student, "tuning", seed, f"{self.name}: best trial {rank}")
            for rank in range(self.confirmed)
            for seed in self.confirm_seeds
        ]
        runs += [PlannedRun(self.student, "final", seed, self._final) for seed in self.seeds]
        return tuple(runs)

    def _rate(self, number: int) -> float | None:
        """Return the learning rate of a trial that only trains on labels with it; None for other trials."""
        if number >= len(self.first) or self.variant.terms or self.epochs_factor != 1.0:
            return None
        settings = self.held | self.first[number]
        return settings.get("lr", 1.0) if settings.keys() <= {"lr"} else None

    def _trial(self, number: int) -> str:
        """Return what tells a trial from other runs; one on labels may be the tuning run of a teacher."""
        rate = self._rate(number)
        return f"{self.name}: trial {number}" if rate is None else _rate(rate)

    @property
    def _final(self) -> str:
        """What tells a final run from others; with the default rate alone it is that of a teacher."""
        as_teacher = self.trials <= 1 and not self.rates and self._rate(0) == 1.0
        return "" if as_teacher else self.name


def _rate(multiple: float) -> str:
    return f"lr x {multiple:g}"


def _rate_runs(model: str, rates: Sequence[float]) -> list[PlannedRun]:
    return [PlannedRun(model, "tuning", TUNING_SEED, _rate(rate)) for rate in rates]


@dataclass(frozen=True)
class StudyPlan:
    """What a study does: rows, runs, order.

    Attributes:
        spec: What was asked for, on this dataset.
        run_specs: Builder of the run specs.
        labels_rows: Teacher and reference rows, in the order of the table.
        student_rows: Student rows, in the order of the table.
        tuning: How rows are searched.
        folder: Name of the study's folder.
    """

    spec: StudySpec
    run_specs: RunSpecs
    labels_rows: tuple[LabelsRow, ...]
    student_rows: tuple[StudentRow, ...]
    tuning: Tuning
    folder: str = ""

    @property
    def rows(self) -> tuple[LabelsRow | StudentRow, ...]:
        """All rows, in the order of the table."""
        return (*self.labels_rows, *self.student_rows)

    @property
    def order(self) -> tuple[LabelsRow | StudentRow, ...]:
        """All rows, the most urgent first: those that wait for most teachers."""
        students = sorted(self.student_rows, key=lambda row: -len(row.variant.teachers))
        return (*students, *self.labels_rows)

    @cached_property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Every run once."""
        return tuple(dict.fromkeys(run for row in self.rows for run in row.runs))

    def largest(self) -> tuple[RunSpec, dict[str, tuple[str, DetectorSpec]]] | None:
        """Return the run whose training step has most operations, and name and architecture of its teachers.

        Sizes that are searched have their largest values. Rows with imported teachers, whose networks a file
        defines, are left out; None if none is left.
        """
        specs = self.run_specs
        trainings: list[tuple[RunSpec, dict[str, RunSpec]]] = [
            (specs.on_labels(row.model, "final", 0, {}), {})
            for row in self.labels_rows
            if not specs.is_imported(row.model)
        ]
        for row in self.student_rows:
            if row.imported:
                continue
            taught = {role: specs.on_labels(name, "final", 0, {}) for role, name in row.teachers.items()}
            settings = row.held | row.defaults | largest_sizes(row.space)
            trainings.append(
                (specs.distilled(row.student, row.variant, "final", 0, settings, taught), taught)
            )
        if not trainings:
            return None
        spec, teachers = max(trainings, key=lambda training: specs.operations(training[0]))
        return spec, {role: (run.model, run.detector) for role, run in teachers.items()}

    def front_members(
        self, found: Mapping[str, RowRecord]
    ) -> dict[str, list[tuple[StudentRow, Settings, str]]]:
        """Return the rows of the members of every front that was found.

        Args:
            found: Row name to the record of its search.

        Returns:
            Row name to members: the row, its settings, and the hash of the trial that found them.
        """
        members: dict[str, list[tuple[StudentRow, Settings, str]]] = {}
        budget = self.run_specs.budget
        seeds = tuple(range(budget.seeds))
        for row in self.student_rows:
            search = found.get(row.name)
            if not isinstance(search, SearchRecord):
                continue
            by_hash = dict(zip(search.trials, search.tried, strict=True))
            names: set[str] = set()
            for hash_ in search.front:
                size = short(by_hash[hash_])
                name = f"{row.name} {size}" if size else row.name
                if name in names:
                    name = f"{name} {hash_[:4]}"
                names.add(name)
                member = replace(
                    row, name=name, seeds=seeds, teacher_seeds=_teacher_seeds(self.run_specs, seeds)
                )
                members.setdefault(row.name, []).append((member, by_hash[hash_], hash_))
        return members


def make_plan(spec: StudySpec, run_specs: RunSpecs, folder: str = "") -> StudyPlan:
    """Resolve a study on an opened dataset.

    Args:
        spec: Study whose names are known.
        run_specs: Builder of its run specs.
        folder: Name of its folder.

    Raises:
        InputError: A row has no such term, teacher or setting, or does not fit its student.
    """
    tuning = Tuning(spec.objective, spec.sampler, spec.pruner, spec.search, spec.patience, spec.start)
    students = tuple(_student_row(row, spec, run_specs, tuning) for row in chosen_rows(spec))
    students = _with_matched_epochs(students, run_specs)
    _check_search(spec, run_specs, students)
    return StudyPlan(spec, run_specs, _labels_rows(spec, run_specs, students), students, tuning, folder)


def _student_row(row: RowSpec, spec: StudySpec, run_specs: RunSpecs, tuning: Tuning) -> StudentRow:
    student, teacher = row.student or spec.student, row.teacher or spec.teacher
    variant = _changed(variants.get(row.variant), row)
    teachers = {role: run_specs.teacher_of(ref, student, teacher) for role, ref in variant.teachers.items()}
    run_specs.check_teachers(variant, student, teachers)
    known = known_settings(variant, student, run_specs)
    for name in row.settings:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise InputError(f"unknown setting '{name}'", where=f"row '{row.name}'", hint=hint)
    space = _space(variant, known, row.settings, tuning)
    budget, single = run_specs.budget, len(tuning.objective) == 1
    seeds = tuple(range(budget.seeds)) if single else ()
    trials = _trials(space, run_specs, tuning)
    every = variant.defaults() | sizes(run_specs.architecture(student), _sizes(student, run_specs))
    defaults = {name: every[name] for name in space}
    confirmed = min(budget.confirmed, trials) if single else 0
    return StudentRow(
        name=row.name,
        student=student,
        variant=variant,
        teachers=teachers,
        imported=frozenset(filter(run_specs.is_imported, teachers.values())),
        held=dict(row.settings),
        space=space,
        defaults=defaults,
        first=_first_settings(row.name, space, defaults, trials, tuning),
        trials=trials,
        confirmed=confirmed if confirmed > 1 else 0,
        confirm_seeds=tuple(TUNING_SEED + k for k in range(1, budget.confirm_seeds)),
        seeds=seeds,
        teacher_seeds=_teacher_seeds(run_specs, seeds),
        rates=run_specs.budget.teacher_lr,
    )


def _with_matched_epochs(rows: tuple[StudentRow, ...], run_specs: RunSpecs) -> tuple[StudentRow, ...]:
    """Lengthen the rows of matched variants to the MACs of the row whose training is most expensive."""
    if not any(row.variant.matched for row in rows):
        return rows
    most = max(run_specs.step_macs(row.student, row.teachers.values()) for row in rows)
    return tuple(
        replace(row, epochs_factor=most / run_specs.step_macs(row.student)) if row.variant.matched else row
        for row in rows
    )


def _changed(variant: Variant, row: RowSpec) -> Variant:
    """Return the variant with the terms and shares of a row, and without teachers that nothing uses."""
    where = f"row '{row.name}'"
    terms = {use.name for use in variant.terms}
    for kind, names, known in (("term", row.without, terms), ("teacher", row.shares, set(variant.teachers))):
        for name in names:
            if name not in known:
                raise InputError(
                    f"variant '{variant.name}' has no {kind} '{name}'",
                    where=where,
                    hint=did_you_mean(name, sorted(known)),
                )
    if row.shares and not any(row.shares.get(r, t.weight) for r, t in variant.teachers.items()):
        raise InputError("no teacher has a share", where=where, hint="give one of them more than 0")
    kept = tuple(use for use in variant.terms if use.name not in row.without)
    mixed = any(use.teacher == MIX for use in kept)
    used = {use.teacher for use in kept} | {variant.student_init}
    teachers = {
        role: replace(ref, weight=row.shares.get(role, ref.weight)) for role, ref in variant.teachers.items()
    }
    teachers = {role: ref for role, ref in teachers.items() if role in used or (mixed and ref.weight > 0)}
    return replace(variant, terms=kept, teachers=teachers)


def known_settings(variant: Variant, student: str, run_specs: RunSpecs) -> dict[str, Search]:
    """Return the settings that can be searched or held, with their declared ranges."""
    return {**variant.search_space(), **_sizes(student, run_specs)}


def _sizes(student: str, run_specs: RunSpecs) -> dict[str, Search]:
    model = get_model(student)
    return dict(size_space(model, run_specs.architecture(student), model.size or run_specs.dataset.size))


def _space(
    variant: Variant, known: Mapping[str, Search], held: Settings, tuning: Tuning
) -> dict[str, Search]:
    """Return the settings that are searched; sizes only where there are several objectives."""
    declared = dict(known) if len(tuning.objective) > 1 else dict(variant.search_space())
    if tuning.sampler == "grid":
        declared = {}
    declared |= {name: values for name, values in tuning.search.items() if name in known}
    return {name: values for name, values in declared.items() if name not in held}


def _first_settings(
    row: str, space: Mapping[str, Search], defaults: Settings, trials: int, tuning: Tuning
) -> tuple[Settings, ...]:
    """Return the settings of the first trials: the best of an earlier study, if any, and the defaults.

    A grid that is tried as a whole has all its points, in any order; of which points a part consists is not
    known before the search.
    """
    if tuning.sampler == "grid" and space:
        points = product(*(choices(values) for values in space.values()))
        whole = trials >= grid_size(space)
        return tuple(dict(zip(space, point, strict=True)) for point in points) if whole else ()
    if row not in tuning.start:
        return (defaults,)
    earlier = {name: value for name, value in tuning.start[row].items() if name in space}
    return (defaults | earlier, defaults)


def _trials(space: Mapping[str, Search], run_specs: RunSpecs, tuning: Tuning) -> int:
    if not space:
        return 0
    trials = run_specs.budget.trials
    return min(grid_size(space), trials) if tuning.sampler == "grid" else trials


def _teacher_seeds(run_specs: RunSpecs, seeds: Sequence[int]) -> tuple[int, ...]:
    return tuple(seed if run_specs.budget.paired_teachers else 0 for seed in seeds)


def _check_search(spec: StudySpec, run_specs: RunSpecs, rows: Sequence[StudentRow]) -> None:
    known = {name for row in rows for name in known_settings(row.variant, row.student, run_specs)}
    for name in spec.search:
        if name not in known:
            hint = did_you_mean(name, sorted(known))
            raise InputError(f"no row has a setting '{name}'", where="search", hint=hint)
    if spec.sampler == "grid" and spec.trials is None:
        for row in rows:
            if (points := grid_size(row.space)) > LARGEST_GRID:
                raise InputError(
                    f"the grid of row '{row.name}' has {points} points",
                    where="search",
                    hint="name fewer values, or give the number of trials with --trials",
                )
    if spec.sampler == "nsga2" and len(spec.objective) == 1:
        raise InputError(
            "nsga2 is for several objectives", where="sampler", hint="use tpe, or --objective map,gmacs"
        )


def _labels_rows(spec: StudySpec, run_specs: RunSpecs, rows: Sequence[StudentRow]) -> tuple[LabelsRow, ...]:
    """Return the teachers, the references, and the students without their hallucination branch."""
    teachers = dict.fromkeys(model for row in rows for model in row.teachers.values())
    used = dict.fromkeys([spec.student, *(row.student for row in rows)])
    names = [model for model in dict.fromkeys([*teachers, *spec.references]) if model not in used]
    branchless = [without_branch(student) for student in used] if spec.baseline else []
    names += [m for m in dict.fromkeys(filter(None, branchless)) if m not in names and m not in used]
    names.sort(key=lambda m: (m not in teachers, INPUTS_ORDER.index(run_specs.model(m).inputs)))
    seeds = tuple(range(run_specs.budget.label_seeds))
    return tuple(
        LabelsRow(
            name=model,
            kind="teacher" if model in teachers else "reference",
            model=model,
            rates=() if run_specs.is_imported(model) else run_specs.budget.teacher_lr,
            seeds=(0,) if run_specs.is_imported(model) else seeds,
        )
        for model in names
    )
