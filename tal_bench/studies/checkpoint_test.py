"""One test of a model from a file, outside a study."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from tal_bench.config import Budget, StudySpec
from tal_bench.data.dataset import open_dataset
from tal_bench.errors import TalBenchError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult
from tal_bench.studies.imported_teacher import bring
from tal_bench.studies.run import recall, run
from tal_bench.studies.run_specs import Context
from tal_bench.studies.setup import prepare
from tal_bench.system.files import check_writable
from tal_bench.training.device import choose_device, choose_precision


def score_file(
    path: Path,
    dataset: str,
    *,
    reports: Path = Path("reports"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    data_root: Path | None = None,
) -> tuple[RunResult, Path]:
    """Detect in the test videos of a dataset, with the post-processing that the file names, and score that.

    Everything lands in `<reports>/test-<dataset>/runs`, where a finished test is found again.

    Returns:
        The result, and the file of the detections.

    Raises:
        InputError: no model of ours, or it does not fit the dataset.
    """
    console = Console(stderr=True)
    check_writable(reports)
    where = choose_device(device)
    spec = prepare(dataset, 1, data_root, console)
    data = open_dataset(spec, tuple(spec.modalities))
    brought = bring(path, spec, data.outputs, where="FILE")
    for note in (*data.notes(), *brought.notes):
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    context = Context(
        dataset=spec,
        classes=len(data.outputs),
        student=StudySpec.model_fields["student"].default,
        teacher=brought.name,
        budget=Budget(),
        seed=0,
        folder=reports / f"test-{spec.name}",
        device=where,
        precision=choose_precision(precision, where),
        brought=brought,
    )
    spec_of_run = context.run(brought.name, "final", 0, {})
    job = context.job(spec_of_run.model_copy(update={"decode": brought.card.decode}))
    folder = StudyFolder(context.folder)
    brought.keep(folder.run_file(job.spec.hash, ".safetensors"), job.spec.hash)
    result = recall(job) or run(job)
    if result.status != "finished":
        raise TalBenchError(f"test failed: {result.error}", where=path)
    return result, folder.run_file(result.hash, ".detections.json")
