"""One training outside a study: a model on labels, or a student under a variant with default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from tal_bench.config import BUDGETS
from tal_bench.data.dataset import open_dataset
from tal_bench.distill.variants import Variant, variants
from tal_bench.errors import InputError, TalBenchError
from tal_bench.execution.executors import make_executor
from tal_bench.models.registry import get_model, students
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.progress import run_progress
from tal_bench.studies.protocol import StudentRow, distilled
from tal_bench.studies.rows import BASELINE
from tal_bench.studies.run_specs import Context, check_teachers, teacher_model
from tal_bench.studies.scheduler import Plan, drive
from tal_bench.studies.setup import prepare
from tal_bench.system.files import check_writable
from tal_bench.training.device import choose_device, choose_precision


def train_one(
    model: str,
    dataset: str,
    *,
    variant: str = BASELINE,
    seed: int = 0,
    budget: Literal["smoke", "quick", "full"] = "quick",
    reports: Path = Path("reports"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    teacher: str = "actionformer",
    data_root: Path | None = None,
) -> RunResult:
    """Train on all training videos and test once; the variant's teachers are trained first.

    Everything lands in `<reports>/train-<dataset>/runs`, where a finished run is found again.

    Raises:
        InputError: unknown model, variant or dataset, or a variant for a model that is no student.
        TalBenchError: the training failed.
    """
    console = Console(stderr=True)
    get_model(model)
    chosen = variants.get(variant)
    if chosen.terms and model not in students:
        raise InputError(
            f"'{model}' is a teacher and learns from labels alone",
            where=f"--variant {variant}",
            hint="choose a student, see tal-bench list students",
        )
    check_writable(reports)
    where = choose_device(device)
    spec = prepare(dataset, 1, data_root, console)
    limits = BUDGETS[budget]
    data = open_dataset(spec, tuple(spec.modalities), limit=limits.videos)
    for line in data.notes():
        console.print(line, highlight=False, soft_wrap=True)
    context = Context(
        dataset=spec,
        classes=len(data.outputs),
        student=model,
        teacher=teacher,
        budget=limits,
        seed=0,
        folder=reports / f"train-{spec.name}",
        device=where,
        precision=choose_precision(precision, where),
    )
    check_teachers(chosen, context)
    with run_progress(console, 1 + len(chosen.teachers)) as shown:
        executor = make_executor(1, where, ())
        rows = drive([(variant, _plan(context, chosen, seed))], executor, executor.size, shown)
    result = StudyFolder(context.folder).read_run(rows[variant].finals[0])
    if result is None or result.status != "finished":
        raise TalBenchError(f"training failed: {result.error if result else 'no result'}")
    return result


def _plan(context: Context, variant: Variant, seed: int) -> Plan:
    """Teachers, then the model."""
    models = {role: teacher_model(ref, context) for role, ref in variant.teachers.items()}
    taught = {role: context.run(name, "final", 0, {}) for role, name in models.items()}
    if taught:
        yield [context.job(spec) for spec in taught.values()]
    spec = distilled(StudentRow(variant.name, variant, context), variant.defaults(), "final", seed, taught)
    yield [context.job(spec)]
    return RowRecord(
        name=variant.name,
        kind="student",
        model=context.student,
        modalities=" + ".join(spec.detector.reads),
        finals=(spec.hash,),
        seeds=(seed,),
    )
