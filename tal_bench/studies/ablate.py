"""The main job: a study definition in, an ablation table out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from tal_bench.config import DatasetSpec, StudySpec
from tal_bench.data.dataset import Dataset
from tal_bench.errors import InputError, TalBenchError
from tal_bench.execution.executors import make_executor
from tal_bench.execution.gpu_sharing import jobs_on_gpus
from tal_bench.execution.progress import run_progress
from tal_bench.execution.registry import WorkerSetup, find_executor
from tal_bench.inference.detections import ground_truth_json
from tal_bench.inference.fold_merging import merge_folds
from tal_bench.inference.scoring import describe_evaluation
from tal_bench.plugins import load_plugins
from tal_bench.report.common.report_files import IncompleteReportError
from tal_bench.report.study.collect import ReportData, collect
from tal_bench.report.study.tables import markdown
from tal_bench.report.study.terminal import print_study
from tal_bench.report.study.write import write_report
from tal_bench.results.folder import StudyFolder
from tal_bench.results.places import REPORTS
from tal_bench.results.records import RowRecord, RunResult, SearchRecord, StudyRecord
from tal_bench.results.study_lock import study_lock, termination_as_interrupt
from tal_bench.studies.costs import measure_costs
from tal_bench.studies.definition import check_names, study_spec
from tal_bench.studies.earlier_study import (
    FOLDS,
    earlier_record,
    folder_id,
    keep_replaced_table,
    warm_start,
    with_earlier_rows,
)
from tal_bench.studies.plan import StudyPlan
from tal_bench.studies.protocol import Protocol, planned_record
from tal_bench.studies.run import CHECKPOINT_EVERY, JobFactory
from tal_bench.studies.scheduler import missing_runs, run_rows
from tal_bench.studies.setup import planned, prepare, read_through, study_name, with_fold
from tal_bench.system.background_sync import LAST_WAIT, BackgroundSync
from tal_bench.system.console import message_console, print_line
from tal_bench.system.files import check_writable, write_atomically
from tal_bench.system.gpus import default_jobs_on
from tal_bench.tracking.mirror import MlflowMirror, StudyStatus
from tal_bench.training.device import choose_device
from tal_bench.tuning.storage import HEARTBEAT_INTERVAL, JOURNAL, database_url
from tal_bench.tuning.trial_mirror import TrialMirror

INTERRUPT_WAIT = 10.0
"""Seconds that an interrupted study waits for MLflow, and for the Optuna storage, to show it."""


@dataclass(frozen=True)
class ExecutionOptions:
    """How a study is carried out; except for `warm_start`, nothing here changes its table.

    Attributes:
        reports: Directory of all studies.
        jobs: Number of worker processes; None = as many as cores and memory allow, on CUDA up to four per
            visible GPU.
        tracking_uri: URI of the MLflow store; None = `sqlite:///mlflow.db` in the working directory.
        plugins: Files that declare variants, students or datasets.
        command: Command line as it was typed, for the record.
        data_root: Directory of the datasets that the package does not make itself.
        scheduler: Name of a registered executor, or address of a Dask scheduler; None for local processes.
        storage: Optuna storage that shows the trials; None for a journal in the study's folder.
        checkpoint_every: Seconds between two checkpoints of a training.
        graphs: Whether training steps on a GPU are recorded as CUDA graphs; without meaning on the CPU.
        timeout: Seconds after which no new run begins; None = no limit.
        warm_start: Folder of an earlier study whose best settings are tried first.
        register: Whether the best student becomes a version of a registered model in MLflow.
        system_metrics: Whether the load of the machine is logged to MLflow.
    """

    reports: Path = REPORTS
    jobs: int | None = None
    tracking_uri: str | None = None
    plugins: tuple[Path, ...] = ()
    command: str = ""
    data_root: Path | None = None
    scheduler: str | None = None
    storage: str | None = None
    checkpoint_every: float = CHECKPOINT_EVERY
    graphs: Literal["auto", "off"] = "auto"
    timeout: float | None = None
    warm_start: Path | None = None
    register: bool = True
    system_metrics: bool = False

    def jobs_on(self, device: str) -> int:
        """Return the number of worker processes on a device."""
        return self.jobs or default_jobs_on(device)


@dataclass
class _Execution:
    """A study in progress.

    Attributes:
        plan: Rows and runs.
        options: How the plan is carried out.
        device: `cpu` or `cuda`.
        data: Opened dataset.
        record: Study record, as far as it is known.
        folder: Folder of the study.
        tracker: Mirror of the folder in MLflow.
        trials: Mirror of the trials in the Optuna storage.
        console: Where progress is shown.
        timed_out: Whether the time limit has passed.
        rows: Name to record of every row, as far as it is known.
        tracker_sync, trials_sync: Threads that keep the mirrors up to date.
    """

    plan: StudyPlan
    options: ExecutionOptions
    device: str
    data: Dataset
    record: StudyRecord
    folder: StudyFolder
    tracker: MlflowMirror
    trials: TrialMirror
    console: Console
    timed_out: Callable[[], bool]
    rows: dict[str, RowRecord] = field(default_factory=dict)
    tracker_sync: BackgroundSync = field(init=False)
    trials_sync: BackgroundSync = field(init=False)

    def __post_init__(self) -> None:
        """Start the threads of the mirrors."""
        self.tracker.prepare()
        self.tracker_sync = BackgroundSync(f"MLflow at {self.tracker.uri}")
        self.trials_sync = BackgroundSync(f"Optuna storage {self.trials.storage}", HEARTBEAT_INTERVAL)

    def mirror(self) -> None:
        """Have the mirrors show soon what is known now."""
        self.tracker_sync.request(partial(self.tracker.sync, self.folder.path))
        self.trials_sync.request(self.trials.sync)

    def end_mirrors(
        self,
        status: StudyStatus,
        reason: str = "",
        table: str = "",
        files: Sequence[Path] = (),
        wait: float = LAST_WAIT,
    ) -> None:
        """Bring the mirrors up to date a last time, see `MlflowMirror.sync`; takes about the wait at most."""
        deadline = time.monotonic() + wait
        self.trials_sync.request(self.trials.sync)
        self.tracker_sync.close(
            partial(self.tracker.sync, self.folder.path, status, reason, table, files), wait
        )
        self.trials_sync.close(self.trials.sync, max(wait / 4, deadline - time.monotonic()))

    def update_row(self, row: RowRecord) -> None:
        """Record what is known of a row; what an earlier command finished is kept."""
        known = self.rows.get(row.name)
        if known is not None and _is_complete(known) and not _is_complete(row):
            return
        if known is not None and known.finals == row.finals:
            row = row.model_copy(update={"cost": known.cost, "training": known.training})
        self.rows[row.name] = row
        self.write_record()
        self.mirror()

    def write_record(self) -> None:
        """Write the study record with the rows as far as they are known."""
        rows = [known for known in self.rows.values() if not isinstance(known, SearchRecord)]
        searches = [known for known in self.rows.values() if isinstance(known, SearchRecord)]
        record = self.record.model_copy(update={"rows": tuple(rows), "searches": tuple(searches)})
        self.folder.write_study(with_earlier_rows(record, self.folder))


def _is_complete(row: RowRecord) -> bool:
    """Whether a record has final runs, or the outcome of a search."""
    return bool(row.finals) or isinstance(row, SearchRecord)


def read_definition(
    spec: StudySpec | str, options: ExecutionOptions, places: Mapping[str, str] | None
) -> tuple[StudySpec, Mapping[str, str] | None]:
    """Return a study and the origin of its fields; the name or YAML file of a definition is read.

    Raises:
        InputError: The definition or a plugin cannot be used.
    """
    if isinstance(spec, StudySpec):
        return spec, places
    load_plugins(options.plugins)
    return study_spec(spec, {})


def open_plan(
    spec: StudySpec,
    options: ExecutionOptions,
    console: Console,
    places: Mapping[str, str] | None = None,
) -> tuple[StudyPlan, Dataset]:
    """Check every name of a study once, open its dataset and resolve its plan; nothing is trained.

    Args:
        spec: Study as it was asked for.
        options: How it is carried out.
        console: Where preparation of the dataset and notes are shown.
        places: Field of the study to the flag, or file and key, that it comes from, for messages.

    Raises:
        InputError: A name, a row or a file cannot be used.
    """
    load_plugins(options.plugins)
    check_names(spec, places)
    find_executor(options.scheduler)
    if options.warm_start is not None:
        spec = warm_start(spec, options.warm_start)
    dataset = prepare(spec.dataset, options.jobs_on("cpu"), options.data_root, console).at(Path.cwd())
    plan, data, notes = planned(spec, with_fold(spec, dataset))
    for line in notes:
        print_line(console, line)
    return plan, data


def worker_count(protocol: Protocol, options: ExecutionOptions, device: str) -> int:
    """Return the number of workers; unless it is given, trainings share GPUs as far as memory allows.

    The memory of a training is measured only where more runs are missing than there are GPUs.
    """
    jobs = options.jobs_on(device)
    workers = find_executor(options.scheduler, jobs, device).workers
    if workers == "one":
        return 1
    if options.jobs or device == "cpu" or workers == "elsewhere":
        return jobs
    return jobs_on_gpus(
        protocol.plan.largest,
        graphs=options.graphs == "auto",
        most=missing_runs(protocol),
        plugins=options.plugins,
    )


def study_folder(plan: StudyPlan, options: ExecutionOptions) -> StudyFolder:
    """Return the folder of a planned study."""
    return StudyFolder(options.reports / plan.folder)


def ablate(
    spec: StudySpec | str,
    options: ExecutionOptions | None = None,
    places: Mapping[str, str] | None = None,
) -> Path:
    """Carry out a study, or what is missing of it, and report it.

    Runs that ended are on disk under the hash of their spec and are not repeated.

    Args:
        spec: Study, or the name or YAML file of its definition, as for `tal-bench ablate`.
        options: How it is carried out.
        places: Field of the study to the flag, or file and key, that it comes from, for messages.

    Returns:
        The study's folder.

    Raises:
        InputError: A name, a file or the reports directory cannot be used; nothing has been written then.
        TalBenchError: Rows failed, or a figure or the page could not be made; the rest has been written.
    """
    options = options or ExecutionOptions()
    spec, places = read_definition(spec, options, places)
    if spec.folds == "all":
        return _ablate_folds(spec, options, places)
    console, timed_out = message_console(), _time_limit(options.timeout)
    tracker = MlflowMirror(
        options.tracking_uri, register=options.register, system_metrics=options.system_metrics
    )
    if options.storage is not None:
        database_url(options.storage)
    check_writable(options.reports)
    plan, data = open_plan(spec, options, console, places)
    read_through(data)
    folder = study_folder(plan, options)
    storage = options.storage or str(folder.path / JOURNAL)
    with study_lock(folder.path), termination_as_interrupt():
        execution = _Execution(
            plan=plan,
            options=options,
            device=choose_device(plan.spec.device),
            data=data,
            record=study_record(plan, options.command, data).model_copy(update={"id": folder_id(folder)}),
            folder=folder,
            tracker=tracker,
            trials=TrialMirror(storage, folder.path.name),
            console=console,
            timed_out=timed_out,
        )
        try:
            return _execute(execution)
        except BaseException as error:
            status: StudyStatus = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            execution.end_mirrors(status, str(error) or "interrupted", wait=INTERRUPT_WAIT)
            raise


def fold_studies(
    spec: StudySpec, options: ExecutionOptions, console: Console, places: Mapping[str, str] | None
) -> tuple[DatasetSpec, StudyFolder, dict[Path, StudySpec]]:
    """Return the dataset of a study of all folds, its folder, and folder and study of every fold.

    Raises:
        InputError: A name is unknown, or the dataset has no folds.
    """
    load_plugins(options.plugins)
    check_names(spec, places)
    jobs = options.jobs_on("cpu")
    dataset = with_fold(spec, prepare(spec.dataset, jobs, options.data_root, console).at(Path.cwd()))
    folder = StudyFolder(options.reports / study_name(spec, dataset))
    studies = [spec.model_copy(update={"folds": fold}) for fold in range(dataset.folds or 0)]
    return (
        dataset,
        folder,
        {folder.path / FOLDS / study_name(one, with_fold(one, dataset)): one for one in studies},
    )


def _ablate_folds(spec: StudySpec, options: ExecutionOptions, places: Mapping[str, str] | None) -> Path:
    """Carry out the studies of all folds in the folder of the whole study, and merge them.

    A study that ended is not repeated, so an interrupted command goes on with the fold in progress. The other
    folds are trained even if rows of one fail. Nothing is merged once the time limit is reached.

    Raises:
        InputError: As in `ablate`, or the dataset has no folds.
        TalBenchError: Rows of a fold failed, or a figure or the page could not be made; the rest has been
            written.
    """
    console, started, problems = message_console(), time.monotonic(), list[str]()
    dataset, folder, folds = fold_studies(spec, options, console, places)
    for number, (part, study) in enumerate(folds.items()):
        print_line(console, f"fold {number + 1} of {len(folds)}")
        inside = replace(options, reports=part.parent)
        if options.timeout is not None:
            inside = replace(inside, timeout=max(options.timeout - (time.monotonic() - started), 0.0))
        try:
            ablate(study, inside, places)
        except TalBenchError as error:
            if isinstance(error, InputError) or StudyFolder(part).read_study().finished is None:
                raise
            problems.append(f"fold {number + 1}: {error.what}")
        if StudyFolder(part).read_study().finished is None:
            message = f"time limit reached in fold {number + 1} of {len(folds)}, nothing is merged yet"
            print_line(console, f"{message}; run the same command to resume")
            return folder.path
    first = StudyFolder(next(iter(folds))).read_study()
    whole = first.model_copy(update={"spec": first.spec.model_copy(update={"folds": "all"})})
    if replaced := keep_replaced_table(whole, folder):
        print_line(console, f"note: {replaced}")
    merge_folds(list(folds), folder.path, dataset, options.command)
    table = collect(folder.path)
    try:
        files = write_report(folder.path, table)
    except IncompleteReportError as error:
        files = list(error.files)
        problems.append(error.what)
    print_study(table)
    print_line(console, f"report: {report_place(folder, files)}")
    if problems:
        raise TalBenchError("; ".join(problems), hint="run the same command again")
    return folder.path


def report_place(folder: StudyFolder, files: Sequence[Path]) -> Path:
    """Return the page of a study if it is among the written files, else the folder."""
    page = folder.path / "page.html"
    return page if page in files else folder.path


def study_record(plan: StudyPlan, command: str, data: Dataset) -> StudyRecord:
    """Return the study record as it is known before the runs."""
    dataset = plan.run_specs.dataset
    return StudyRecord(
        spec=plan.spec,
        command=command,
        dataset=dataset.name,
        fingerprint=dataset.fingerprint,
        classes=data.classes,
        test_videos=len(data.ids("test")),
        tiou=dataset.tiou,
        evaluation=describe_evaluation(dataset),
        ap_method=dataset.ap_method,
        skipped=data.selection.skipped,
    )


def _execute(execution: _Execution) -> Path:
    """Do the runs, measure the costs, write the report."""
    folder, console = execution.folder, execution.console
    _write_inputs(execution)
    execution.mirror()
    rows, members = _do_runs(execution)
    names = [name for row in execution.plan.rows for name in members.get(row.name, [row.name])]
    missing = [name for name in names if name not in rows]
    record = with_earlier_rows(_finished_record(execution, rows, members, names, missing), folder)
    folder.write_study(record)
    table = collect(folder.path)
    incomplete = None
    try:
        files = write_report(folder.path, table)
    except IncompleteReportError as error:
        files, incomplete = list(error.files), error
    if table.rows:
        print_study(table)
    failed = failed_rows(table)
    reason = "time limit reached" if missing else ""
    execution.end_mirrors("KILLED" if missing else "FINISHED", reason, markdown(table), files)
    if missing:
        message = f"time limit reached, missing rows: {', '.join(missing)}; run the same command to resume"
        print_line(console, message)
    print_line(console, f"report: {report_place(folder, files)}")
    if failed:
        if incomplete is not None:
            print_line(console, str(incomplete))
        what = f"{len(failed)} row{'s' * (len(failed) > 1)} failed: {', '.join(failed)}"
        raise TalBenchError(what, hint="run the same command again to try them again")
    if incomplete is not None:
        raise incomplete
    return folder.path


def _write_inputs(execution: _Execution) -> None:
    """Write what the study starts from: the imported teacher, the ground truth, the record."""
    folder, data = execution.folder, execution.data
    if replaced := keep_replaced_table(execution.record, folder):
        print_line(execution.console, f"note: {replaced}")
    run_specs = execution.plan.run_specs
    if imported := run_specs.imported:
        run = run_specs.on_labels(imported.name, "final", 0, {}).hash
        imported.save(folder.run_file(run, ".safetensors"), run)
        for note in imported.notes:
            print_line(execution.console, f"note: {note}")
    truth = ground_truth_json(data.videos("test"), data.classes, data.selection.groups)
    write_atomically(folder.path / "ground_truth.json", json.dumps(truth))
    earlier = earlier_record(execution.record, folder)
    known = {row.name: row for row in (*earlier.rows, *earlier.searches)} if earlier else {}
    for row in execution.plan.rows:
        planned = planned_record(row, run_specs)
        found = known.get(row.name, planned)
        execution.rows[row.name] = found if _is_complete(found) else planned
    execution.write_record()


def _finished_record(
    execution: _Execution,
    rows: Mapping[str, RowRecord],
    members: Mapping[str, list[str]],
    names: list[str],
    missing: list[str],
) -> StudyRecord:
    """Return the study record with its rows, whose costs are measured now."""
    jobs = _job_factory(execution)
    finished = [rows[name] for name in names if name in rows]
    searches = [row for row in rows.values() if isinstance(row, SearchRecord)]
    return execution.record.model_copy(
        update={
            "rows": tuple(measure_costs(execution.plan.run_specs, jobs, finished, execution.console)),
            "searches": tuple(
                row.model_copy(update={"members": tuple(members[row.name])}) for row in searches
            ),
            "finished": None if missing else datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def _time_limit(timeout: float | None) -> Callable[[], bool]:
    """Return a function that says whether the time since now exceeds the limit, in seconds."""
    started = time.monotonic()
    return lambda: timeout is not None and time.monotonic() - started >= timeout


def _job_factory(execution: _Execution) -> JobFactory:
    options = execution.options
    return JobFactory(execution.folder.path.resolve(), options.checkpoint_every, options.graphs == "auto")


def _do_runs(execution: _Execution) -> tuple[dict[str, RowRecord], dict[str, list[str]]]:
    """Return the finished rows by name, and the names of the members of every front by its search row."""
    options, plan, folder = execution.options, execution.plan, execution.folder
    protocol = Protocol(
        plan, _job_factory(execution), execution.trials.generation_started, execution.update_row
    )
    jobs = worker_count(Protocol(plan, protocol.jobs), options, execution.device)
    first_line = f"[0/{len(plan.runs)}] {jobs} at a time; results on disk are used again"
    print_line(execution.console, first_line)
    members: dict[str, list[str]] = {}
    with run_progress(execution.console, len(plan.runs)) as show:

        def on_result(names: Sequence[str], result: RunResult, fresh: bool) -> None:
            show(names, result, fresh)
            execution.trials.run_ended(result)
            execution.mirror()

        executor = make_executor(
            WorkerSetup(jobs, execution.device, folder.path, options.plugins, options.scheduler or "")
        )
        try:
            rows = run_rows(protocol.rows(), executor, executor.size, on_result, execution.timed_out)
            fronts = protocol.front_rows(rows)
            members = {search: [name for name, _ in steps] for search, steps in fronts.items()}
            steps = [member for front in fronts.values() for member in front]
            rows |= run_rows(steps, executor, executor.size, on_result, execution.timed_out)
        except BaseException:
            executor.terminate()
            raise
        executor.shutdown()
    return rows, members


def failed_rows(study: ReportData) -> list[str]:
    """Return the rows that lack some of their final runs, with the reasons."""
    failed = []
    for row in study.rows:
        seeds = {result.spec.seed for result in row.results}
        reasons = {s: row.failures.get(s, "no result") for s in row.record.seeds if s not in seeds}
        if reasons:
            failed.append(f"{row.record.name} ({'; '.join(f'seed {s}: {e}' for s, e in reasons.items())})")
    return failed
