"""Costs of the rows' architectures, measured once, after the last training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from tal_bench.config import content_hash
from tal_bench.errors import InputError
from tal_bench.inference.trained_models import load_trained
from tal_bench.models.registry import decoding_recipe
from tal_bench.profiling.inputs import hardware_name
from tal_bench.profiling.model import cost_key, profile_model
from tal_bench.profiling.training import profile_training, training_key
from tal_bench.profiling.video_minute import (
    detector_seconds_per_minute,
    extraction_device,
    extraction_seconds,
    minute_of_video,
    steps_per_minute,
)
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord
from tal_bench.studies.run import JobFactory
from tal_bench.studies.run_specs import RunSpecs
from tal_bench.system.console import print_line
from tal_bench.system.files import write_atomically
from tal_bench.training.device import Device
from tal_bench.training.prediction import decode

R = TypeVar("R")
THREADS = 1
"""CPU threads, as in training and in the measurement of the extraction."""


def measure_costs(
    run_specs: RunSpecs, jobs: JobFactory, rows: Sequence[RowRecord], console: Console
) -> list[RowRecord]:
    """Write the cost of every row that has a finished run; return the rows with the keys of their costs."""
    folder = StudyFolder(jobs.folder)

    def finished(row: RowRecord) -> tuple[str, ...]:
        results = (folder.read_run(hash_) for hash_ in row.finals)
        return tuple(r.hash for r in results if r is not None and r.status == "finished")

    def measured(row: RowRecord, run: str) -> RowRecord:
        training = _training_cost(run_specs, jobs, row, run, console)
        cost = _cost(run_specs, jobs, row, run, console).key
        return row.model_copy(update={"cost": cost, "training": training})

    runs = [finished(row) for row in rows]
    return [measured(row, ended[0]) if ended else row for row, ended in zip(rows, runs, strict=True)]


def _cost(run_specs: RunSpecs, jobs: JobFactory, row: RowRecord, run: str, console: Console) -> CostRecord:
    """Return the cost of a row's architecture, measured with the weights of a run unless it is on disk."""
    folder = StudyFolder(jobs.folder)
    device = Device(run_specs.device, run_specs.precision)
    ended = folder.read_run(run)
    model = run_specs.model(row.model)
    architecture = ended.spec.detector if ended else run_specs.architecture(row.model)  # sizes may be tuned
    frames = run_specs.dataset.max_length
    key = cost_key(model, architecture, frames=frames, device=device, threads=THREADS)
    known = _known(partial(folder.read_cost, key), console)
    if known is not None:
        return known
    print_line(console, f"measuring the cost of {row.name}")
    cost = profile_model(model, architecture, frames=frames, device=device, threads=THREADS)
    # all of a minute is measured on one device: the extraction of some datasets runs on the CPU only
    where = extraction_device(run_specs.dataset, run_specs.device)
    if where != run_specs.device:
        device = Device(where)
    extraction = _extraction(run_specs, jobs.folder, device, console)
    if extraction:
        net = load_trained(run, folder)[0]
        detector = detector_seconds_per_minute(
            net,
            architecture,
            partial(decode, settings=decoding_recipe(model, run_specs.dataset)),
            steps=steps_per_minute(run_specs.dataset),
            device=device,
            threads=THREADS,
        )
        minute, others = minute_of_video(architecture, extraction, detector)
        measured = {"minute": minute, "minute_alternatives": others}
        cost = cost.model_copy(update={**measured, "minute_device": hardware_name(device.torch)})
    folder.write_cost(cost)
    return cost


def _training_cost(run_specs: RunSpecs, jobs: JobFactory, row: RowRecord, run: str, console: Console) -> str:
    """Return the key of the cost of a row's training step, measured unless it is on disk.

    The key is empty for imported models.
    """
    folder = StudyFolder(jobs.folder)
    ended = folder.read_run(run)
    if ended is None or ended.spec.weights is not None:
        return ""
    spec, teachers = ended.spec, {}
    for role, use in spec.distill.teachers.items() if spec.distill else ():
        teacher = folder.read_run(use.run)
        if teacher is None:
            return ""
        teachers[role] = (run_specs.model(use.model), teacher.spec.detector)
    device = Device(run_specs.device, run_specs.precision, deterministic=run_specs.deterministic)
    key = training_key(spec, teachers, device=device, threads=THREADS)
    if _known(partial(folder.read_training_cost, key), console) is None:
        print_line(console, f"measuring the training step of {row.name}")
        model = run_specs.model(row.model)
        folder.write_cost(profile_training(spec, model, teachers, device=device, threads=THREADS))
    return key


def _known(read: Callable[[], R | None], console: Console) -> R | None:
    """Return a record that was measured before; a damaged one is measured again."""
    try:
        return read()
    except InputError as error:
        print_line(console, f"{error.where}: {error.what}; measured again")
        return None


def _extraction(run_specs: RunSpecs, folder: Path, device: Device, console: Console) -> dict[str, float]:
    """Return the seconds of extraction per minute of video, measured once per study and hardware.

    They are kept in a file with a hash of the name of the GPU or processor.
    """
    file = folder / "costs" / f"extraction-{content_hash(hardware_name(device.torch))}.json"
    if file.exists():
        known: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        return known
    print_line(console, "measuring what a minute of video costs")
    measured = extraction_seconds(run_specs.dataset, device.torch.type)
    write_atomically(file, json.dumps(measured, indent=1))
    return measured
