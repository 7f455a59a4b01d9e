"""Before a study starts: a dataset that is ready, and a directory that can be written."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tal_bench.config import DatasetSpec, StudySpec
from tal_bench.data.dataset import Dataset
from tal_bench.data.registry import load_spec, notices
from tal_bench.data.splits import with_fingerprint


def study_name(spec: StudySpec, dataset: DatasetSpec) -> str:
    """Folder of a study: its name and dataset; student, teacher, objectives, budget if not the default."""
    parts = [spec.name, dataset.name]
    chosen = [("student", spec.student), ("teacher", spec.teacher if spec.teacher_file is None else None)]
    parts += [name for field, name in chosen if name and name != StudySpec.model_fields[field].default]
    if len(spec.objective) > 1:
        parts.append("-".join(spec.objective))
    if spec.budget != "quick":
        parts.append(spec.budget)
    return "-".join(parts)


def read_through(data: Dataset) -> None:
    """Read every feature once, where they fit into memory, so that what is broken is said before training.

    Raises:
        DataError: names the file.
    """
    if data.in_memory:
        data.videos("train+validation")
        data.videos("test")


def prepare(name: str, jobs: int, data_root: Path | None, console: Console) -> DatasetSpec:
    """A dataset ready to be read, with its fingerprint; shows progress where it has to be made."""
    with Progress(
        TextColumn("preparing {task.fields[dataset]}"),
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
        console.print(f"{spec.name}: {line}", highlight=False, soft_wrap=True)
    return spec
