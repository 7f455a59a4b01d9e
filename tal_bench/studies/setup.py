"""Preparation of a study: its name, and a dataset that is ready to be read."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tal_bench.config import DatasetSpec, StudySpec
from tal_bench.data.dataset import Dataset
from tal_bench.data.registry import load_spec, notices
from tal_bench.data.splits import with_fingerprint
from tal_bench.system.console import print_line


def study_name(spec: StudySpec, dataset: DatasetSpec) -> str:
    """Return the folder name of a study: name, dataset, and what differs from the defaults."""
    parts = [spec.name, dataset.name]
    fields = [("student", spec.student), ("teacher", spec.teacher if spec.teacher_file is None else None)]
    parts += [name for field, name in fields if name and name != StudySpec.model_fields[field].default]
    if len(spec.objective) > 1:
        parts.append("-".join(spec.objective))
    if spec.budget != "quick":
        parts.append(spec.budget)
    return "-".join(parts)


def read_through(data: Dataset) -> None:
    """Read every feature once where all fit into memory, so that damaged files are found before training.

    Raises:
        DataError: A file is damaged or missing.
    """
    if data.in_memory:
        data.videos("train+validation")
        data.videos("test")


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
