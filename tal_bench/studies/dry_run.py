"""What a study would do: rows, runs, how many are on disk, and how long the others may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from tal_bench.config import StudySpec
from tal_bench.results.records import RunResult
from tal_bench.studies.ablate import (
    ExecutionOptions,
    fold_studies,
    open_plan,
    read_definition,
    study_folder,
    study_record,
    worker_count,
)
from tal_bench.studies.earlier_study import replaced_table
from tal_bench.studies.plan import LabelsRow, PlannedRun
from tal_bench.studies.protocol import Protocol
from tal_bench.studies.run import JobFactory
from tal_bench.studies.scheduler import results_on_disk
from tal_bench.system.console import message_console
from tal_bench.training.device import choose_device


@dataclass(frozen=True)
class RowSummary:
    """A row of the plan.

    Attributes:
        name: Name in the table.
        kind: `teacher`, `reference` or `student`.
        model: Registered name.
        teachers: Registered models that the row learns from.
        trials: Tuning trials of the row itself.
        seeds: Final seeds.
        runs: Runs that the row needs, those of its teachers included; rows share teachers.
        on_disk: How many of them are on disk.
    """

    name: str
    kind: str
    model: str
    teachers: tuple[str, ...]
    trials: int
    seeds: int
    runs: int
    on_disk: int


@dataclass(frozen=True)
class PlanSummary:
    """The plan of a study against its folder.

    Attributes:
        study: Name of the study.
        dataset: Name of the dataset.
        folder: Folder of the study.
        rows: Rows in the order of the table.
        runs: Number of distinct runs.
        on_disk: How many of them are on disk.
        jobs: Number of worker processes.
        replaces: What of the table in the folder the study replaces, in words; empty for nothing.
        seconds: Estimated seconds that the missing runs take with these workers, from the durations of the
            runs on disk; None without any.
    """

    study: str
    dataset: str
    folder: str
    rows: tuple[RowSummary, ...]
    runs: int
    on_disk: int
    jobs: int
    seconds: float | None
    replaces: str = ""


def dry_run(
    spec: StudySpec | str,
    options: ExecutionOptions | None = None,
    places: Mapping[str, str] | None = None,
) -> PlanSummary:
    """Resolve the plan of a study and compare it with its folder; nothing is trained or written there.

    A dataset that the package makes itself is prepared, since the plan depends on it. On a GPU, the number of
    workers is found as the study finds it, for which a process may make some training steps.

    Args:
        spec: As in `ablate`.
        options: How it would be carried out.
        places: As in `ablate`.

    Raises:
        InputError: A name, a row or a file cannot be used.
    """
    options = options or ExecutionOptions()
    spec, places = read_definition(spec, options, places)
    if spec.folds == "all":
        return _of_all_folds(spec, options, places)
    plan, data = open_plan(spec, options, message_console(), places)
    folder, device = study_folder(plan, options), choose_device(plan.spec.device)
    protocol = Protocol(plan, JobFactory(folder.path.resolve()))
    found = results_on_disk(protocol.rows()).results
    distinct = {key: result for results in found.values() for key, result in results.items()}
    jobs = worker_count(protocol, options, device)
    rows = tuple(
        RowSummary(
            name=row.name,
            kind=row.kind if isinstance(row, LabelsRow) else "student",
            model=row.model if isinstance(row, LabelsRow) else row.student,
            teachers=() if isinstance(row, LabelsRow) else tuple(row.teachers.values()),
            trials=0 if isinstance(row, LabelsRow) else row.trials,
            seeds=len(row.seeds),
            runs=len(row.runs),
            on_disk=len(found[row.name]),
        )
        for row in plan.rows
    )
    return PlanSummary(
        study=plan.spec.name,
        dataset=plan.run_specs.dataset.name,
        folder=str(folder.path),
        rows=rows,
        runs=len(plan.runs),
        on_disk=len(distinct),
        jobs=jobs,
        replaces=replaced_table(study_record(plan, options.command, data), folder),
        seconds=_seconds_left(plan.runs, distinct.values(), jobs),
    )


def _of_all_folds(
    spec: StudySpec, options: ExecutionOptions, places: Mapping[str, str] | None
) -> PlanSummary:
    """Return the sum of the plans of all folds."""
    _, folder, studies = fold_studies(spec, options, message_console(), places)
    folds = [dry_run(one, replace(options, reports=part.parent), places) for part, one in studies.items()]
    seconds = [fold.seconds for fold in folds if fold.seconds is not None]
    rows = [
        replace(row, runs=sum(r.runs for r in same), on_disk=sum(r.on_disk for r in same))
        for row, *others in zip(*(fold.rows for fold in folds), strict=True)
        for same in ([row, *others],)
    ]
    return replace(
        folds[0],
        folder=str(folder.path),
        rows=tuple(rows),
        runs=sum(fold.runs for fold in folds),
        on_disk=sum(fold.on_disk for fold in folds),
        seconds=sum(seconds) * len(folds) / len(seconds) if seconds else None,
        replaces=next((fold.replaces for fold in folds if fold.replaces), ""),
    )


def _seconds_left(planned: Iterable[PlannedRun], found: Collection[RunResult], jobs: int) -> float | None:
    """Return the mean duration of runs of the same model and phase times the number of missing ones."""
    durations: dict[tuple[str, str], list[float]] = {}
    for result in found:
        if result.timings:
            key = (result.spec.model, result.spec.phase)
            durations.setdefault(key, []).append(sum(result.timings.values()))
    if not durations:
        return None
    overall = fmean(seconds for every in durations.values() for seconds in every)
    missing = Counter((run.model, str(run.phase)) for run in planned)
    missing.subtract((result.spec.model, str(result.spec.phase)) for result in found)
    seconds = (
        count * (fmean(durations[key]) if key in durations else overall)
        for key, count in missing.items()
        if count > 0
    )
    return sum(seconds) / jobs
