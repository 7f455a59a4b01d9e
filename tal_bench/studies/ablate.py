"""The main job: a study definition in, an ablation table out."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
from tal_bench.results import RunResult, StudyFolder, StudyRecord, write_atomically
from tal_bench.studies.brought import bring, check_taught
from tal_bench.studies.costs import measure_costs
from tal_bench.studies.detections import ground_truth_json
from tal_bench.studies.drive import drive
from tal_bench.studies.executor import abandon, make_executor
from tal_bench.studies.fitted import fitted
from tal_bench.studies.merge import with_earlier_rows
from tal_bench.studies.plan import Context
from tal_bench.studies.progress import run_progress
from tal_bench.studies.rows import check_names, expected_runs, plan_rows
from tal_bench.studies.scoring import described
from tal_bench.studies.setup import check_writable, prepare, read_through, study_name
from tal_bench.studies.tracking import Tracker


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
    """

    reports: Path = Path("reports")
    jobs: int | None = None
    tracking_uri: str | None = None
    plugins: tuple[Path, ...] = ()
    command: str = ""
    data_root: Path | None = None


def ablate(spec: StudySpec, options: StudyOptions) -> Path:
    """Carry out a study, or what is missing of it, and report it.

    Runs that ended are on disk under the hash of their spec and are not repeated.

    Returns:
        The study's folder.

    Raises:
        InputError: a name, a file or the reports directory is not usable; nothing has been written then.
    """
    console = Console(stderr=True)
    load_plugins(options.plugins)
    check_names(spec)
    device = choose_device(spec.device)
    jobs = options.jobs or (default_jobs() if device == "cpu" else 1)
    tracker = Tracker(options.tracking_uri)
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
    with run_progress(console, expected_runs(spec, context)) as shown:

        def on_result(row: str, result: RunResult, fresh: bool) -> None:
            shown(row, result, fresh)
            tracker.log(result, row)

        executor = make_executor(jobs, device, options.plugins)
        try:
            rows = drive(plans, executor, jobs, on_result)
        except BaseException:
            abandon(executor)
            raise
        executor.shutdown()
    costed = measure_costs(context, [rows[name] for name in order], console)
    record = record.model_copy(
        update={"rows": tuple(costed), "finished": datetime.now(UTC).isoformat(timespec="seconds")}
    )
    record = with_earlier_rows(record, folder)
    folder.write_study(record)
    study = collect(folder.path)
    files = write_report(folder.path, study)
    tracker.finish(record, markdown(study), files)
    print_study(study)
    console.print(f"report: {folder.path}", highlight=False, soft_wrap=True)
    return folder.path
