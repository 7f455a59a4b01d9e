"""The main job: a study definition in, an ablation table out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tal_bench.config import StudySpec
from tal_bench.data.dataset import Dataset, open_dataset
from tal_bench.errors import TalBenchError
from tal_bench.execution.executors import make_executor
from tal_bench.inference.detections import ground_truth_json
from tal_bench.inference.scoring import described
from tal_bench.plugins import load_plugins
from tal_bench.report.study.collect import Study, collect
from tal_bench.report.study.tables import markdown
from tal_bench.report.study.terminal import print_study
from tal_bench.report.study.write import write_report
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult, SearchRecord, StudyRecord
from tal_bench.results.study_lock import study_lock, termination_as_interrupt
from tal_bench.studies.adaptation import fitted
from tal_bench.studies.costs import measure_costs
from tal_bench.studies.earlier_study import with_earlier_rows
from tal_bench.studies.imported_teacher import bring, check_teaches
from tal_bench.studies.progress import run_progress
from tal_bench.studies.rows import check_names, expected_runs, plan_members, plan_rows
from tal_bench.studies.run import CHECKPOINT_EVERY
from tal_bench.studies.run_specs import Context
from tal_bench.studies.scheduler import drive
from tal_bench.studies.setup import prepare, read_through, study_name
from tal_bench.system.cpu_count import default_jobs
from tal_bench.system.files import check_writable, write_atomically
from tal_bench.tracking.tracker import Tracker
from tal_bench.training.device import choose_device, choose_precision
from tal_bench.tuning.search import Tuning
from tal_bench.tuning.storage import JOURNAL, OFF, database_url
from tal_bench.tuning.trial_mirror import TrialMirror


@dataclass(frozen=True)
class ExecutionOptions:
    """How a study is carried out; nothing here changes its table.

    Attributes:
        reports: directory of all studies.
        jobs: worker processes; none = as many as cores and memory allow on the CPU, one on a GPU.
        tracking_uri: of MLflow; none = `sqlite:///mlflow.db` in the working directory.
        plugins: files that declare variants, students, datasets.
        command: as it was typed, for the record.
        data_root: where datasets that the person brings lie.
        scheduler: address of a Dask scheduler, `local` for one of our own; none for processes of our own.
        storage: where Optuna shows the trials; none for a journal in the study's folder.
        checkpoint_every: seconds between two writings of a training's state.
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
    scheduler: str | None = None
    storage: str | None = None
    checkpoint_every: float = CHECKPOINT_EVERY
    timeout: float | None = None
    register: bool = True
    system_metrics: bool = False


@dataclass
class _Study:
    """A study under way.

    Attributes:
        options: how it is carried out.
        context: what its rows share.
        data: opened.
        record: as far as it is known.
        folder: of the study.
        tracker: of MLflow.
        console: where progress is shown.
        order: names of the rows, as in the table; a row with a front stands for its members.
        late: whether the time is over.
    """

    options: ExecutionOptions
    context: Context
    data: Dataset
    record: StudyRecord
    folder: StudyFolder
    tracker: Tracker
    console: Console
    order: list[str]
    late: Callable[[], bool]


def ablate(spec: StudySpec, options: ExecutionOptions) -> Path:
    """Carry out a study, or what is missing of it, and report it.

    Runs that ended are on disk under the hash of their spec and are not repeated.

    Returns:
        The study's folder.

    Raises:
        InputError: a name, a file or the reports directory is not usable; nothing has been written then.
        TalBenchError: rows failed; the report of the others has been written.
    """
    console, late = Console(stderr=True), _clock(options.timeout)
    load_plugins(options.plugins)
    check_names(spec)
    device = choose_device(spec.device)
    jobs = options.jobs or (default_jobs() if device == "cpu" else 1)
    tracker = Tracker(options.tracking_uri, register=options.register, system_metrics=options.system_metrics)
    if options.storage is not None:
        database_url(options.storage)
    check_writable(options.reports)
    dataset = prepare(spec.dataset, jobs, options.data_root, console).at(Path.cwd())
    folder = StudyFolder(options.reports / study_name(spec, dataset))
    spec, changed = fitted(spec, dataset)
    data = open_dataset(dataset, tuple(dataset.modalities), limit=spec.spending.videos)
    for line in filter(None, (changed, *data.notes())):
        console.print(line, highlight=False, soft_wrap=True)
    brought = None
    if spec.teacher_file is not None:
        brought = bring(spec.teacher_file, dataset, data.outputs)
        spec = spec.model_copy(update={"teacher": brought.name})
    context = Context(
        dataset=dataset,
        classes=len(data.outputs),
        student=spec.student,
        teacher=spec.teacher,
        budget=spec.spending,
        seed=spec.seed,
        folder=folder.path.resolve(),
        device=device,
        precision=choose_precision(spec.precision, device),
        teacher_precision=spec.teacher_precision,
        brought=brought,
        checkpoint_every=options.checkpoint_every,
        tuning=Tuning(spec.objective, spec.sampler, spec.pruner, spec.search, spec.patience, spec.start),
    )
    order, _ = plan_rows(spec, context)
    read_through(data)
    if brought is not None:
        check_teaches(brought, order)
    record = _record(spec, options, context, data)
    with study_lock(folder.path), termination_as_interrupt():
        study = _Study(options, context, data, record, folder, tracker, console, order, late)
        try:
            return _carry_out(study, jobs)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            tracker.stop("KILLED" if interrupted else "FAILED", str(error) or "interrupted")
            raise


def _record(spec: StudySpec, options: ExecutionOptions, context: Context, data: Dataset) -> StudyRecord:
    """The study as it is known before its runs."""
    dataset = context.dataset
    return StudyRecord(
        spec=spec,
        command=options.command,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        classes=data.classes,
        test_videos=len(data.videos("test")),
        tiou=dataset.tiou,
        evaluation=described(dataset),
        ap_method=dataset.ap_method,
        skipped=data.selection.skipped,
    )


def _carry_out(study: _Study, jobs: int) -> Path:
    """Do the runs, measure the costs, report; whatever ends it, MLflow hears of it."""
    folder, data, console = study.folder, study.data, study.console
    if brought := study.context.brought:
        run = study.context.run(brought.name, "final", 0, {}).hash
        brought.keep(folder.run_file(run, ".safetensors"), run)
        for note in brought.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
    truth = ground_truth_json(data.videos("test"), data.classes, data.selection.groups)
    write_atomically(folder.path / "ground_truth.json", json.dumps(truth))
    folder.write_study(with_earlier_rows(study.record, folder))
    study.tracker.study(study.record, folder.path)
    rows, members = _do_runs(study, jobs)
    wanted = [name for row in study.order for name in members.get(row, [row])]
    missing = [name for name in wanted if name not in rows]
    costed = measure_costs(study.context, [rows[name] for name in wanted if name in rows], console)
    searches = [x for x in rows.values() if isinstance(x, SearchRecord)]
    record = study.record.model_copy(
        update={
            "rows": tuple(costed),
            "searches": tuple(x.model_copy(update={"members": tuple(members[x.name])}) for x in searches),
            "finished": None if missing else datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    record = with_earlier_rows(record, folder)
    folder.write_study(record)
    table = collect(folder.path)
    files = write_report(folder.path, table)
    lacking = failed_rows(table)
    study.tracker.finish(
        record, markdown(table), files, "KILLED" if missing else "FAILED" if lacking else "FINISHED"
    )
    if table.rows:
        print_study(table)
    if missing:
        told = f"--timeout is over without {', '.join(missing)}; the same command goes on"
        console.print(told, highlight=False, soft_wrap=True)
    console.print(f"report: {folder.path}", highlight=False, soft_wrap=True)
    if lacking:
        what = f"{len(lacking)} row{'s' * (len(lacking) > 1)} failed: {', '.join(lacking)}"
        raise TalBenchError(what, hint="run the same command again to try them again")
    return folder.path


def _clock(timeout: float | None) -> Callable[[], bool]:
    """Says whether so many seconds have gone by since now."""
    started = time.monotonic()
    return lambda: timeout is not None and time.monotonic() - started >= timeout


def _do_runs(study: _Study, jobs: int) -> tuple[dict[str, RowRecord], dict[str, list[str]]]:
    """Name to row, when all runs have ended, and the rows of fronts by the row that was searched."""
    spec, options, device = study.record.spec, study.options, study.context.device
    ledger = None
    if options.storage != OFF:
        ledger = TrialMirror(options.storage or str(study.folder.path / JOURNAL), study.folder.path.name)
    context = replace(study.context, ledger=ledger)
    total = expected_runs(spec, context)
    begun = f"[0/{total}] {jobs} at a time; what is on disk is not repeated"
    study.console.print(begun, markup=False, highlight=False, soft_wrap=True)
    with run_progress(study.console, total) as shown:

        def on_result(row: str, result: RunResult, fresh: bool) -> None:
            shown(row, result, fresh)
            study.tracker.log(result, row)
            if ledger is not None:
                ledger.run_ended(row, result)

        executor = make_executor(
            jobs, device, options.plugins, scheduler=options.scheduler, folder=study.folder.path
        )
        try:
            plans = plan_rows(spec, context)[1]
            rows = drive(plans, executor, executor.size, on_result, study.late)
            members, plans = plan_members(spec, context, rows)
            rows |= drive(plans, executor, executor.size, on_result, study.late)
        except BaseException:
            executor.terminate()
            if ledger is not None:
                ledger.close(wait=False)
            raise
        executor.shutdown()
    if ledger is not None:
        ledger.close(wait=True)
    return rows, members


def failed_rows(study: Study) -> list[str]:
    """Rows that lack some of their final runs: which, and why."""
    lacking = []
    for row in study.rows:
        have = {result.spec.seed for result in row.results}
        why = {seed: row.failures.get(seed, "no result") for seed in row.record.seeds if seed not in have}
        if why:
            lacking.append(f"{row.record.name} ({'; '.join(f'seed {s}: {e}' for s, e in why.items())})")
    return lacking
