"""Detectors at the published size, measured relative to dense matrix products.

Efficiency = 2 · multiply-accumulates / seconds / dense fp32 throughput, so that results compare between
machines. A training step counts as three forward passes; its other work (clipping, AdamW, weight average) is
not counted.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from tal_bench.config import (
    DatasetSpec,
    DetectorSpec,
    DistillSpec,
    ModalitySpec,
    TeacherUse,
    TermUse,
    TrainSpec,
)
from tal_bench.distill.objective import DistillationObjective
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.latency import measure_latency
from tal_bench.profiling.model import count
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch, VideoMeta

FRAMES, WIDTH, CLASSES, BATCH = 2304, 1024, 20, 2
THREADS = int(os.environ.get("TAL_BENCH_THREADS", "2"))
PLACES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Measurement:
    """Measurement of one operation on one device.

    Attributes:
        seconds: Median time.
        efficiency: Efficiency as defined above.
        dense: Dense fp32 throughput in FLOP/s, measured alternately with the operation.
    """

    seconds: float
    efficiency: float
    dense: float

    def record(self, benchmark: Any) -> None:
        """Add the measurement to the results of the benchmark."""
        benchmark.extra_info.update(
            efficiency=round(self.efficiency, 3),
            ms=round(1e3 * self.seconds, 1),
            dense_gflops=round(self.dense / 1e9),
        )


def dataset() -> DatasetSpec:
    """Return a dataset with the streams of THUMOS14."""
    return DatasetSpec(
        name="published",
        annotations=Path("none"),
        modalities={
            "rgb": ModalitySpec(role="primary", folder=Path("rgb"), channels=WIDTH, nonnegative=True),
            "flow": ModalitySpec(role="privileged", folder=Path("flow"), channels=WIDTH, nonnegative=True),
        },
        stride=4,
        window=16,
        max_length=FRAMES,
    )


def network(name: str, data: DatasetSpec | None = None) -> tuple[DetectorSpec, nn.Module]:
    """Return the architecture of a detector for a dataset, and the detector with random weights."""
    torch.manual_seed(0)
    model = get_model(name)
    spec = detector_spec(model, data or dataset(), CLASSES)
    return spec, model.build(spec)


def operations(name: str, data: DatasetSpec | None = None) -> float:
    """Count the floating-point operations of a forward pass of one video."""
    spec, _ = network(name, data)
    return 2.0 * count(get_model(name), spec, spec.max_length)[1]


def batch(videos: int, frames: int = FRAMES) -> Batch:
    """Return a batch of noise without padding, with fifteen segments per video."""
    torch.manual_seed(1)
    starts = torch.rand(videos, 15) * (frames - 60)
    segments = torch.stack([starts, starts + 5 + 50 * torch.rand(videos, 15)], dim=2)
    return Batch(
        features={m: torch.rand(videos, frames, WIDTH).transpose(1, 2) for m in ("rgb", "flow")},
        mask=torch.ones(videos, frames, dtype=torch.bool),
        segments=segments,
        labels=torch.randint(0, CLASSES, (videos, 15)),
        videos=[VideoMeta(id=str(i), duration=300.0, fps=30.0, stride=4, window=16) for i in range(videos)],
    )


def both(precision: Literal["student", "bf16"]) -> DistillSpec:
    """Return the distillation settings of the variant `both`, with two teachers."""
    return DistillSpec(
        teachers={
            "modal": TeacherUse(run="0", model="actionformer", weight=0.8),
            "structure": TeacherUse(run="1", model="conv", weight=0.2),
        },
        terms=(
            TermUse(name="hallucination", teacher="modal", weight=5.0),
            TermUse(name="stem", teacher="structure", weight=1.0),
            TermUse(name="offsets", teacher="mix", weight=1.0),
            TermUse(name="logits-binary", teacher="mix", weight=1.0),
        ),
        precision=precision,
    )


def training_step(
    name: str,
    device: Device,
    teachers: Literal["none", "student", "bf16"] = "none",
    data: DatasetSpec | None = None,
) -> TrainingStep:
    """Return a training step, with both teachers if their precision is given."""
    spec, student = network(name, data)
    if teachers == "none":
        return TrainingStep(student, spec, TrainSpec(), steps_per_epoch=100, device=device)
    networks = {"modal": network("actionformer", data), "structure": network("conv", data)}
    objective = DistillationObjective(both(teachers), spec, {role: s for role, (s, _) in networks.items()})
    frozen = {role: net for role, (_, net) in networks.items()}
    return TrainingStep(
        student, spec, TrainSpec(), steps_per_epoch=100, device=device, teachers=frozen, objective=objective
    )


class DenseProducts:
    """Ten products of [2304, 2048] and [2048, 2048] in fp32 without TF32, the reference for efficiency."""

    flop = 10 * 2.0 * FRAMES * 2048 * 2048

    def __init__(self, device: torch.device) -> None:
        self.factors = torch.randn(FRAMES, 2048, device=device), torch.randn(2048, 2048, device=device)

    def __call__(self) -> None:
        a, b = self.factors
        for _ in range(10):
            a @ b


def times(benchmark: Any, work: Any, other: Any, device: Device, *, rounds: int) -> list[tuple[float, float]]:
    """Time both alternately, `other` first, so that other load on the machine affects both; in seconds."""

    def timed(call: Any) -> float:
        return measure_latency(call, device.torch, warmup=0, runs=1).median / 1e3

    seconds, other_seconds = list[float](), list[float]()
    for call in (work, other):
        timed(call), timed(call)
    benchmark.pedantic(
        lambda: seconds.append(timed(work)), setup=lambda: other_seconds.append(timed(other)), rounds=rounds
    )
    return list(zip(seconds, other_seconds, strict=True))


def measure(benchmark: Any, work: Any, flop: float, device: Device, *, rounds: int) -> Measurement:
    """Time work and dense products alternately; the efficiency is the median over rounds."""
    products = DenseProducts(device.torch)
    measured = times(benchmark, work, products, device, rounds=rounds)
    efficiency = statistics.median(flop / s / (products.flop / d) for s, d in measured)
    seconds, dense = (statistics.median(column) for column in zip(*measured, strict=True))
    result = Measurement(seconds, efficiency, products.flop / dense)
    result.record(benchmark)
    return result
