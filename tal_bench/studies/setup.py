"""Preparation of a study: its name, its dataset, and a plan that can be carried out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tal_bench.config import BUDGETS, DatasetSpec, Precision, StudySpec
from tal_bench.data.dataset import Dataset, open_dataset
from tal_bench.data.findings import Finding
from tal_bench.data.registry import load_spec, notices
from tal_bench.data.splits import with_fingerprint
from tal_bench.errors import DataError, InputError
from tal_bench.studies.imported_teacher import check_teaches, import_teacher
from tal_bench.studies.plan import StudyPlan, make_plan
from tal_bench.studies.rows import with_references, without_privileged
from tal_bench.studies.run_specs import RunSpecs
from tal_bench.system.console import print_line
from tal_bench.training.device import choose_deterministic, choose_device, choose_precision


def study_name(spec: StudySpec, dataset: DatasetSpec) -> str:
    """Return the folder name of a study: name, dataset, and what differs from the defaults."""
    parts = [spec.name, dataset.name]
    fields = [("student", spec.student), ("teacher", spec.teacher if spec.teacher_file is None else None)]
    parts += [name for field, name in fields if name and name != StudySpec.model_fields[field].default]
    if len(spec.objective) > 1:
        parts.append("-".join(spec.objective))
    if spec.budget != "quick":
        parts.append(spec.budget)
    if spec.folds is not None:
        parts.append("folds" if spec.folds == "all" else f"fold{spec.folds}")
    return "-".join(parts)


def with_fold(spec: StudySpec, dataset: DatasetSpec) -> DatasetSpec:
    """Return the dataset with the fold of a study.

    Raises:
        InputError: The dataset has no folds, or fewer.
    """
    if spec.folds is None:
        return dataset
    if dataset.folds is None:
        hint = "set 'folds: 5' in the dataset file"
        raise InputError(f"dataset '{dataset.name}' has no folds", where="folds", hint=hint)
    if spec.folds == "all":
        return dataset
    if spec.folds >= dataset.folds:
        what = f"{spec.folds}, dataset '{dataset.name}' has folds 0 to {dataset.folds - 1}"
        raise InputError(what, where="folds")
    return dataset.model_copy(update={"fold": spec.folds})


def read_through(data: Dataset) -> None:
    """Read every feature once where all fit into memory, so that damaged files are found before training.

    Raises:
        DataError: A file is damaged or missing.
    """
    if data.in_memory:
        data.videos("train+validation")
        data.videos("test")


def planned(spec: StudySpec, dataset: DatasetSpec) -> tuple[StudyPlan, Dataset, list[str]]:
    """Open the dataset of a study and resolve its plan; refuse what would fail later.

    `tal-bench ablate` and `tal-bench data check` both ask this function, so that they agree.

    Args:
        spec: Study whose names are known.
        dataset: Its dataset, with fingerprint and absolute paths.

    Returns:
        The plan, the opened dataset, and notes on what was changed or left out.

    Raises:
        InputError: A row, a file or the dataset cannot be used.
    """
    spec = with_references(spec)
    folder = study_name(spec, dataset)
    spec, changed = without_privileged(spec, dataset)
    data = open_dataset(dataset, tuple(dataset.modalities), limit=spec.effective_budget.videos)
    if not data.outputs:
        raise DataError("no classes: no segment has a label", where=dataset.annotations)
    imported = None
    if spec.teacher_file is not None:
        imported = import_teacher(spec.teacher_file, dataset, data.outputs)
        spec = spec.model_copy(update={"teacher": imported.name})
    device = choose_device(spec.device)
    deterministic = choose_deterministic(spec.deterministic, device)  # before the precision asks the GPU
    run_specs = RunSpecs(
        dataset=dataset,
        classes=len(data.outputs),
        budget=spec.effective_budget,
        device=device,
        precision=choose_precision(spec.precision, device),
        teacher_precision=_teacher_precision(spec, device),
        deterministic=deterministic,
        imported=imported,
    )
    plan = make_plan(spec, run_specs, folder)
    if imported is not None:
        check_teaches(imported, [row.name for row in plan.rows])
    _check_parts(plan, data)
    return plan, data, [*filter(None, (changed,)), *data.notes()]


def _teacher_precision(spec: StudySpec, device: str) -> Literal["student"] | Precision:
    """Return the precision of the teachers.

    Raises:
        InputError: The device does not have it.
    """
    if spec.teacher_precision == "student":
        return "student"
    return choose_precision(spec.teacher_precision, device, flag="--teacher-precision")


def _check_parts(plan: StudyPlan, data: Dataset) -> None:
    """Check that every part of the dataset that the runs of a plan need can be used."""
    specs = plan.run_specs
    trained = [run for run in plan.runs if not specs.is_imported(run.model)]
    batch_size = max((specs.schedule(run.model).batch_size for run in trained), default=1)
    data.require("test")
    if any(run.phase == "tuning" for run in trained):
        data.require("validation")
        data.require("train", batch_size)
    if trained:
        data.require("train+validation", batch_size)


def study_findings(dataset: DatasetSpec) -> list[Finding]:
    """Return the reasons for which `tal-bench ablate` would refuse a dataset, at any budget."""
    budgets: dict[tuple[str, str], list[str]] = {}
    try:
        dataset = with_fingerprint(dataset)
    except InputError as error:
        return [Finding("error", "study", *_described(error, dataset))]
    for name in BUDGETS:
        try:
            planned(StudySpec(name="check", variants=("both",), budget=name), dataset)  # type: ignore[arg-type]
        except InputError as error:
            budgets.setdefault(_described(error, dataset), []).append(name)
    return [
        Finding("error", "study", place, f"{what}; refused with --budget {', '.join(names)}")
        for (place, what), names in budgets.items()
    ]


def _described(error: InputError, dataset: DatasetSpec) -> tuple[str, str]:
    """Return place and text of an error."""
    return str(error.where or dataset.annotations), error.what + (f" ({error.hint})" if error.hint else "")


def prepare(name: str, jobs: int, data_root: Path | None, console: Console) -> DatasetSpec:
    """Return a dataset that is ready to be read, with its fingerprint; show progress while it is made."""
    with Progress(
        TextColumn("preparing {task.fields[dataset]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as display:
        task = display.add_task("", dataset=name, total=None, visible=False)

        def show(done: int, total: int) -> None:
            display.update(task, completed=done, total=total, visible=done < total)

        spec = with_fingerprint(load_spec(name, jobs=jobs, data_root=data_root, progress=show))
    for line in notices(spec):
        print_line(console, f"{spec.name}: {line}")
    return spec
