"""Single runs outside a study: train one model, or test one file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tal_bench.config import BUDGETS, Budget, Precision
from tal_bench.data.dataset import open_dataset
from tal_bench.distill.variants import Variant, variants
from tal_bench.errors import InputError, TalBenchError
from tal_bench.execution.executors import make_executor
from tal_bench.execution.progress import run_progress
from tal_bench.execution.registry import WorkerSetup
from tal_bench.models.registry import get_model, students
from tal_bench.results.folder import StudyFolder
from tal_bench.results.places import REPORTS
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.imported_teacher import import_teacher
from tal_bench.studies.protocol import RowSteps
from tal_bench.studies.rows import BASELINE
from tal_bench.studies.run import JobFactory, load_result, run
from tal_bench.studies.run_specs import RunSpecs
from tal_bench.studies.scheduler import run_rows
from tal_bench.studies.setup import prepare
from tal_bench.system.console import message_console, print_line
from tal_bench.system.files import check_writable
from tal_bench.training.device import choose_deterministic, choose_device, choose_precision


def train_one(
    model: str,
    dataset: str,
    *,
    variant: str = BASELINE,
    seed: int = 0,
    budget: Literal["smoke", "quick", "full"] = "quick",
    reports: Path = REPORTS,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto"] | Precision = "auto",
    graphs: Literal["auto", "off"] = "auto",
    deterministic: bool = False,
    teacher: str = "actionformer",
    data_root: Path | None = None,
) -> RunResult:
    """Train on all training videos and test once; the variant's teachers are trained first.

    Everything is written to `<reports>/train-<dataset>/runs`, where a finished run is found again.
    Training steps on a GPU are recorded as CUDA graphs, unless `graphs` is `off`. With `deterministic`, a GPU
    repeats its results bit by bit, as the CPU does in any case.

    Raises:
        InputError: The model, variant or dataset is unknown, or the model is not a student.
        TalBenchError: The training failed.
    """
    console = message_console()
    get_model(model)
    chosen = variants.get(variant)
    if chosen.terms and model not in students:
        raise InputError(
            f"'{model}' is a teacher and learns from labels alone",
            where=f"--variant {variant}",
            hint="choose a student, see tal-bench list students",
        )
    check_writable(reports)
    device_name = choose_device(device)
    repeats = choose_deterministic(deterministic, device_name)  # before the precision asks the GPU
    spec = prepare(dataset, 1, data_root, console)
    limits = BUDGETS[budget]
    data = open_dataset(spec, tuple(spec.modalities), limit=limits.videos)
    data.require("test")
    for line in data.notes():
        print_line(console, line)
    run_specs = RunSpecs(
        dataset=spec,
        classes=len(data.outputs),
        budget=limits,
        device=device_name,
        precision=choose_precision(precision, device_name),
        deterministic=repeats,
    )
    teachers = {role: run_specs.teacher_of(ref, model, teacher) for role, ref in chosen.teachers.items()}
    run_specs.check_teachers(chosen, model, teachers)
    trained = (model, *teachers.values())
    data.require("train+validation", max(run_specs.schedule(name).batch_size for name in trained))
    jobs = JobFactory(reports / f"train-{spec.name}", graphs=graphs == "auto")
    steps = _steps(run_specs, jobs, model, chosen, teachers, seed)
    with run_progress(console, 1 + len(teachers)) as show:
        executor = make_executor(WorkerSetup(1, device_name, jobs.folder, address="in-process"))
        rows = run_rows([(variant, steps)], executor, executor.size, show)
    result = StudyFolder(jobs.folder).read_run(rows[variant].finals[0])
    if result is None or result.status != "finished":
        raise TalBenchError(f"training failed: {result.error if result else 'no result'}")
    return result


def _steps(
    run_specs: RunSpecs, jobs: JobFactory, model: str, variant: Variant, teachers: dict[str, str], seed: int
) -> RowSteps:
    """Train the teachers, then the model."""
    runs = {role: run_specs.on_labels(name, "final", 0, {}) for role, name in teachers.items()}
    if runs:
        yield [jobs.job(spec) for spec in runs.values()]
    spec = run_specs.distilled(model, variant, "final", seed, variant.defaults(), runs)
    yield [jobs.job(spec)]
    return RowRecord(
        name=variant.name,
        kind="student",
        model=model,
        modalities=" + ".join(spec.detector.reads),
        finals=(spec.hash,),
        seeds=(seed,),
    )


def score_checkpoint(
    path: Path,
    dataset: str,
    *,
    reports: Path = REPORTS,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto"] | Precision = "auto",
    data_root: Path | None = None,
) -> tuple[RunResult, Path]:
    """Detect in the test videos of a dataset, with the post-processing that the file names, and score that.

    Everything is written to `<reports>/test-<dataset>/runs`, where a finished test is found again.

    Returns:
        The result, and the file of the detections.

    Raises:
        InputError: The file holds no model of this package, or one that does not fit the dataset.
    """
    console = message_console()
    check_writable(reports)
    device_name = choose_device(device)
    spec = prepare(dataset, 1, data_root, console)
    data = open_dataset(spec, tuple(spec.modalities))
    data.require("test")
    imported = import_teacher(path, spec, data.outputs, where="FILE")
    for note in (*data.notes(), *imported.notes):
        print_line(console, f"note: {note}")
    run_specs = RunSpecs(
        dataset=spec,
        classes=len(data.outputs),
        budget=Budget(),
        device=device_name,
        precision=choose_precision(precision, device_name),
        imported=imported,
    )
    run_spec = run_specs.on_labels(imported.name, "final", 0, {})
    job = JobFactory(reports / f"test-{spec.name}").job(
        run_spec.model_copy(update={"decode": imported.card.decode})
    )
    folder = StudyFolder(job.folder)
    imported.save(folder.run_file(job.spec.hash, ".safetensors"), job.spec.hash)
    result = load_result(job) or run(job)
    if result.status != "finished":
        raise TalBenchError(f"test failed: {result.error}", where=path)
    return result, folder.run_file(result.hash, ".detections.json")
