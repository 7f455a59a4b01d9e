"""The main job: a study definition in, an ablation table out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tal_bench.config import StudySpec
from tal_bench.cores import default_jobs
from tal_bench.data.dataset import open_dataset
from tal_bench.engine.device import choose_device, choose_precision
from tal_bench.plugins import load_plugins
from tal_bench.report import write_report
from tal_bench.report.collect import collect
from tal_bench.report.tables import markdown
from tal_bench.report.terminal import print_study
from tal_bench.results import RowRecord, RunResult, SearchRecord, StudyFolder, StudyRecord, write_atomically
from tal_bench.studies.brought import bring, check_taught
from tal_bench.studies.costs import measure_costs
from tal_bench.studies.detections import ground_truth_json
from tal_bench.studies.drive import Plan, drive
from tal_bench.studies.executor import abandon, make_executor
from tal_bench.studies.fitted import fitted
from tal_bench.studies.merge import with_earlier_rows
from tal_bench.studies.plan import Context
from tal_bench.studies.progress import run_progress
from tal_bench.studies.rows import check_names, expected_runs, plan_members, plan_rows
from tal_bench.studies.scoring import described
from tal_bench.studies.setup import check_writable, prepare, read_through, study_name
from tal_bench.studies.tracking import Tracker
from tal_bench.studies.tune import Tuning


@dataclass(frozen=True)
class StudyOptions:
    """How a study is carried out; nothing here changes its table.

    Attributes:
        reports: directory of all studies.
        jobs: worker processes; none = as many as cores and memory allow on the CPU, one on a GPU.
        tracking_uri: of MLflow; none = `sqlite:///mlflow.db` in the working directory.
        plugins: files that declare variants, students, datasets.
        command: as it was typed, for the record.
        data_root: where datasets that the person brings lie.
        timeout: seconds after which no new run is begun; none = no end.
        register: whether the best student becomes a version of a registered model in MLflow.
        system_metrics: whether the machine's load is logged to MLflow.
    """

    reports: Path = Path("reports")
    jobs: int | None = None
    tracking_uri: str | None = None
    plugins: tuple[Path, ...] = ()
    command: str = ""
    data_root: Path | None = None
    timeout: float | None = None
    register: bool = True
    system_metrics: bool = False


def ablate(spec: StudySpec, options: StudyOptions) -> Path:
    """Carry out a study, or what is missing of it, and report it.

    Runs that ended are on disk under the hash of their spec and are not repeated.

    Returns:
        The study's folder.

    Raises:
        InputError: a name, a file or the reports directory is not usable; nothing has been written then.
    """
    console, started = Console(stderr=True), time.monotonic()
    load_plugins(options.plugins)
    check_names(spec)
    device = choose_device(spec.device)
    jobs = options.jobs or (default_jobs() if device == "cpu" else 1)
    options = replace(options, jobs=jobs)
    tracker = Tracker(options.tracking_uri, register=options.register, system_metrics=options.system_metrics)
    check_writable(options.reports)
    dataset = prepare(spec.dataset, jobs, options.data_root, console)
    spec, changed = fitted(spec, dataset)
    data = open_dataset(dataset, tuple(dataset.modalities), limit=spec.spending.videos)
    for line in filter(None, (changed, *data.notes())):
        console.print(line, highlight=False, soft_wrap=True)
    brought = None
    if spec.teacher_file is not None:
        brought = bring(spec.teacher_file, dataset, data.outputs)
        spec = spec.model_copy(update={"teacher": brought.name})
    folder = StudyFolder(options.reports / study_name(spec, dataset))
    context = Context(
        dataset=dataset,
        classes=len(data.outputs),
        student=spec.student,
        teacher=spec.teacher,
        budget=spec.spending,
        seed=spec.seed,
        folder=folder.path,
        device=device,
        precision=choose_precision(spec.precision, device),
        teacher_precision=spec.teacher_precision,
        brought=brought,
        tuning=Tuning(spec.objective, spec.sampler, spec.pruner, spec.search, spec.patience, spec.start),
    )
    order, plans = plan_rows(spec, context)
    read_through(data)
    if brought is not None:
        check_taught(brought, order)
        run = context.run(brought.name, "final", 0, {}).hash
        brought.keep(folder.run_file(run, ".safetensors"), run)
        for note in brought.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
    test = data.videos("test")
    record = StudyRecord(
        spec=spec,
        command=options.command,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        classes=data.classes,
        test_videos=len(test),
        tiou=dataset.tiou,
        protocol=described(dataset),
        scoring=dataset.protocol,
        skipped=data.selection.skipped,
    )
    write_atomically(
        folder.path / "ground_truth.json",
        json.dumps(ground_truth_json(test, data.classes, data.selection.groups)),
    )
    folder.write_study(with_earlier_rows(record, folder))
    tracker.study(record, folder.path)
    rows, members = _driven(spec, context, plans, options, tracker, _clock(options.timeout, started))
    wanted = [name for row in order for name in members.get(row, [row])]
    missing = [name for name in wanted if name not in rows]
    searches = [x for x in rows.values() if isinstance(x, SearchRecord)]
    record = record.model_copy(
        update={
            "rows": tuple(measure_costs(context, [rows[x] for x in wanted if x in rows], console)),
            "searches": tuple(x.model_copy(update={"members": tuple(members[x.name])}) for x in searches),
            "finished": None if missing else datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    _report(with_earlier_rows(record, folder), folder, tracker)
    if missing:
        told = f"--timeout is over without {', '.join(missing)}; the same command goes on"
        console.print(told, highlight=False, soft_wrap=True)
    console.print(f"report: {folder.path}", highlight=False, soft_wrap=True)
    return folder.path


def _driven(
    spec: StudySpec,
    context: Context,
    plans: Sequence[tuple[str, Plan]],
    options: StudyOptions,
    tracker: Tracker,
    stop: Callable[[], bool],
) -> tuple[dict[str, RowRecord], dict[str, list[str]]]:
    """Rows by name, and the members of fronts by the row that was searched."""
    jobs = options.jobs or 1
    with run_progress(Console(stderr=True), expected_runs(spec, context)) as shown:

        def on_result(row: str, result: RunResult, fresh: bool) -> None:
            shown(row, result, fresh)
            tracker.log(result, row)

        executor = make_executor(jobs, context.device, options.plugins)
        try:
            rows = drive(plans, executor, jobs, on_result, stop)
            members, plans = plan_members(spec, context, rows)
            rows |= drive(plans, executor, jobs, on_result, stop)
        except BaseException:
            abandon(executor)
            raise
        executor.shutdown()
    return rows, members


def _report(record: StudyRecord, folder: StudyFolder, tracker: Tracker) -> None:
    """Write, track and print what there is."""
    folder.write_study(record)
    study = collect(folder.path)
    files = write_report(folder.path, study)
    tracker.finish(record, markdown(study), files, "FINISHED" if record.finished else "KILLED")
    if study.rows:
        print_study(study)


def _clock(timeout: float | None, started: float) -> Callable[[], bool]:
    """Whether so many seconds have gone by."""
    return lambda: timeout is not None and time.monotonic() - started >= timeout
