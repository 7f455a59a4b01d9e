"""Measure what a training step costs under a distillation objective: time, memory and dropped parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from tal_bench.config import (
    DetectorSpec,
    DistillSpec,
    RunSpec,
    content_hash,
    hashed_fields,
    without_later_fields,
)
from tal_bench.distill.objective import DistillationObjective
from tal_bench.models.registry import Model
from tal_bench.profiling.inputs import hardware_name, torch_threads
from tal_bench.profiling.latency import measure_latency
from tal_bench.profiling.memory import MB, peak_allocation, tensor_bytes
from tal_bench.profiling.parameters import count_parameters
from tal_bench.results.records import TrainingCost
from tal_bench.training.device import Device
from tal_bench.training.recorded_step import WARM_UP, recorded_on
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch, VideoMeta

VERSION = 1
"""Version of the method; increased when the same training would be measured differently."""
CONTEXT_BYTES = 600_000_000
"""Memory of a GPU that a process takes for its CUDA context and the kernels that it loads."""
WARMUP, RUNS, SECONDS = 1, 5, 3.0
"""Settings of the time measurement; they are small because a study measures every row."""
LATER_FIELDS = (("deterministic", False),)
"""Conditions that were added after the first release, and their defaults, which keys leave out."""
Network = tuple[Model, DetectorSpec]
"""How a network is built, and its architecture."""


def training_key(spec: RunSpec, teachers: Mapping[str, Network], *, device: Device, threads: int) -> str:
    """Return the key of a measurement: a hash of networks, terms, batch size, conditions and hardware name.

    Weights of terms, temperature and learning rate do not enter, so rows that differ by them share a record.
    """
    conditions = without_later_fields(
        {
            "version": VERSION,
            "training": "step",
            "architecture": hashed_fields(spec.detector),
            "teachers": {role: hashed_fields(net) for role, (_, net) in teachers.items()},
            "terms": [(use.name, use.teacher) for use in spec.distill.terms] if spec.distill else [],
            "teacher_precision": spec.distill.precision if spec.distill else "",
            "batch": spec.train.batch_size,
            "device": hardware_name(device.torch),
            "threads": threads,
            "precision": device.precision,
            "deterministic": device.deterministic,
        },
        LATER_FIELDS,
    )
    return content_hash(conditions)


def profile_training(
    spec: RunSpec, student: Model, teachers: Mapping[str, Network], *, device: Device, threads: int
) -> TrainingCost:
    """Measure training steps on videos of the maximal length; weights are random, features are noise.

    Args:
        spec: Run of the student: architecture, objective, batch size.
        student: How the student is built.
        teachers: Teachers of the objective by role.
        device: Device and precision of the training.
        threads: Number of CPU threads.
    """
    with torch.random.fork_rng(devices=[]):
        step = _training_step(spec, student, teachers, device)
        networks = [net for _, net in teachers.values()]
        batch = device.pin(_labelled_batch(spec.detector, networks, spec.train.batch_size))

        held: list[object] = []

        def train() -> None:
            step(batch)

        def train_without_freeing() -> None:
            # the allocator warns of memory that is freed in the measurement and was allocated before
            held.append(
                [step.normalizer, *(p.grad for g in step.optimizer.param_groups for p in g["params"])]
            )
            step(batch)

        with torch_threads(threads):
            latency = measure_latency(train, device.torch, warmup=WARMUP, runs=RUNS, seconds=SECONDS)
            allocated = peak_allocation(train_without_freeing, device.torch)
        memory = tensor_bytes(_tensors(step, batch)) + allocated
    return TrainingCost(
        key=training_key(spec, teachers, device=device, threads=threads),
        step_ms={"median": latency.median, "iqr": latency.iqr},
        peak_memory_mb=memory / MB,
        dropped_params=count_parameters(step.objective) if step.objective is not None else 0,
        batch_size=spec.train.batch_size,
        frames=spec.detector.max_length,
        threads=threads,
        device=hardware_name(device.torch),
        precision=device.precision,
    )


def training_memory(spec: RunSpec, student: Model, teachers: Mapping[str, Network], *, graphs: bool) -> int:
    """Return the bytes of GPU memory that a training takes, without features that stay there.

    They are what PyTorch has reserved after some steps, and an estimate of the memory of a CUDA context.

    Args:
        spec: Run of the student.
        student: How the student is built.
        teachers: Teachers of the objective by role.
        graphs: Whether steps are recorded as CUDA graphs, which keep memory of their own.
    """
    device = Device("cuda", spec.precision, deterministic=spec.deterministic)
    step = _training_step(spec, student, teachers, device)
    networks = [net for _, net in teachers.values()]
    batch = device.pin(_labelled_batch(spec.detector, networks, spec.train.batch_size))
    advance = recorded_on(device, step) if graphs else step
    for _ in range(WARM_UP + 2):
        advance(batch)
    return int(torch.cuda.max_memory_reserved()) + CONTEXT_BYTES


def _training_step(
    spec: RunSpec, student: Model, teachers: Mapping[str, Network], device: Device
) -> TrainingStep:
    architectures = {role: net for role, (_, net) in teachers.items()}
    return TrainingStep(
        student.build(spec.detector),
        spec.detector,
        spec.train,
        steps_per_epoch=1000,
        device=device,
        teachers={role: model.build(net) for role, (model, net) in teachers.items()},
        objective=_objective(spec.distill, spec.detector, architectures),
    )


def _objective(
    spec: DistillSpec | None, student: DetectorSpec, teachers: Mapping[str, DetectorSpec]
) -> DistillationObjective | None:
    return None if spec is None else DistillationObjective(spec, student, teachers)


def _labelled_batch(student: DetectorSpec, teachers: list[DetectorSpec], size: int) -> Batch:
    """Return videos of noise without padding, with segments whose lengths double up to a quarter of T."""
    frames = student.max_length
    widths = {name: width for net in (student, *teachers) for name, width in _modalities(net)}
    lengths = [2**power for power in range(2, max(3, frames.bit_length() - 2))]
    starts = [frames * i // (len(lengths) + 1) for i in range(len(lengths))]
    segments = torch.tensor([[s, s + n] for s, n in zip(starts, lengths, strict=True)], dtype=torch.float32)
    labels = torch.arange(len(lengths)) % student.classes
    video = VideoMeta(id="noise", duration=float(frames), fps=1.0, stride=1.0, window=1.0)
    return Batch(
        features={name: torch.randn(size, frames, c).transpose(1, 2) for name, c in widths.items()},
        mask=torch.ones(size, frames, dtype=torch.bool),
        segments=segments.expand(size, -1, -1),
        labels=labels.expand(size, -1),
        videos=[video] * size,
    )


def _modalities(spec: DetectorSpec) -> Iterator[tuple[str, int]]:
    channels = {**spec.primary, **spec.privileged}
    return ((name, channels[name]) for name in spec.reads)


def _tensors(step: TrainingStep, batch: Batch) -> Iterator[Tensor]:
    """Yield what is held between two steps: weights, average, teachers, moments and the batch."""
    modules: list[nn.Module] = [step.student, step.average.module, *step.teachers.networks]
    if step.objective is not None:
        modules.append(step.objective)
    for module in modules:
        yield from chain(module.parameters(), module.buffers())
    for moments in step.optimizer.state.values():
        yield from moments.values()
    yield from batch.features.values()
