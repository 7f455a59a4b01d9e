"""Parts of a training step of a small network, and what a larger batch costs, in CPU time of one thread.

CPU time is not lengthened by other processes as elapsed time is. Run it as

    python tests/benchmarks/step_parts.py

The step on a batch of 16 bounds what eight trainings could gain by sharing every operation of a step: it does
the arithmetic of eight steps on a batch of 2 with the calls of one.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tal_bench.config import DetectorSpec, DistillSpec, TeacherUse, TrainSpec
from tal_bench.data.batches import pack_segments
from tal_bench.distill.objective import DistillationObjective
from tal_bench.distill.variants import variants
from tal_bench.models.detector import Detector
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.training.teachers_ahead import AHEAD, outputs_ahead
from tal_bench.types import Batch

FRAMES, SEGMENTS, ROUNDS = 400, 12, 40
CHANNELS = {"rgb": 96, "flow": 32}
SIZES = (2, 8, 16)
PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm")


def architecture(structure: str, inputs: Any) -> DetectorSpec:
    """Return a small network with the sizes of the embedded datasets."""
    return DetectorSpec(
        structure=structure, inputs=inputs, primary={"rgb": 96}, privileged={"flow": 32}, classes=12,
        max_length=FRAMES, width=48, head_width=48, embed_layers=2, stem_blocks=1, branch_blocks=4,
        head_layers=1, attention_window=9, offset_activation="softplus", hallucination_activation="linear",
        regression_ranges=((0, 4), (4, 8), (8, 16), (16, 32), (32, 10000)),
    )  # fmt: skip


def batch(videos: int, seed: int) -> Batch:
    """Return full-length videos of noise with random segments."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(videos, SEGMENTS, 1, generator=generator) * (FRAMES - 30)
    segments = torch.cat([start, start + 3 + 25 * torch.rand(start.shape, generator=generator)], dim=2)
    labels = torch.randint(0, 12, (videos, SEGMENTS), generator=generator)
    return Batch(
        {
            name: torch.randn(videos, FRAMES, width, generator=generator).transpose(1, 2)
            for name, width in CHANNELS.items()
        },
        torch.ones(videos, FRAMES, dtype=torch.bool),
        *pack_segments(list(segments), list(labels)),
        [],
    )


def training_step(with_teachers: bool) -> TrainingStep:
    """Return the step of a student on labels, or of the variant `both` with its two teachers."""
    torch.manual_seed(0)
    own = architecture("conv-dw", "hallucinated")
    student, spec = Detector(own), TrainSpec(batch_size=2, lr_width=192)
    if not with_teachers:
        return TrainingStep(student, own, spec, steps_per_epoch=45, device=Device("cpu"))
    specs = {"modal": architecture("actionformer", "all"), "structure": architecture("conv", "all")}
    uses = {role: TeacherUse(run=role, model=role, weight=0.5) for role in specs}
    distill = DistillSpec(teachers=uses, terms=variants.get("both").terms)
    return TrainingStep(
        student,
        own,
        spec,
        steps_per_epoch=45,
        device=Device("cpu"),
        teachers={role: Detector(s) for role, s in specs.items()},
        objective=DistillationObjective(distill, own, specs),
    )


def timed(owner: Any, name: str, times: list[float]) -> None:
    """Replace a function by one that also notes its milliseconds."""
    function: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        before = time.process_time()
        result = function(*args, **kwargs)
        times.append(1e3 * (time.process_time() - before))
        return result

    setattr(owner, name, call)


def seconds(step: TrainingStep, videos: int) -> float:
    """Return the median seconds of a step, with the teachers' share of a pass over several batches."""
    batches = [batch(videos, seed) for seed in range(AHEAD)]
    measured = []
    for _ in range(max(3, 2 * ROUNDS // AHEAD // videos)):
        before = time.process_time()
        for one, answers in outputs_ahead(step.teachers, iter(batches), Device("cpu")):
            step(one, answers)
        measured.append((time.process_time() - before) / AHEAD)
    return statistics.median(measured[1:])


def share_of_products(step: TrainingStep, videos: int) -> float:
    """Return the share of matrix products in the time of a step."""
    given = batch(videos, 0)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(5):
            step(given)
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    return sum(times.get(name, 0.0) for name in PRODUCTS) / sum(times.values())


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    plain = training_step(with_teachers=False)
    alone = {size: seconds(plain, size) for size in SIZES}
    for size, value in alone.items():
        print(f"batch of {size:2}: {1e3 * value:6.1f} ms, {value / alone[2]:.2f} x a batch of 2")
    print(f"matrix products: {share_of_products(plain, 16):.0%} of a step on a batch of 16")
    taught = seconds(training_step(with_teachers=True), 2)
    print(f"with two teachers: {1e3 * taught:.1f} ms, {taught / alone[2]:.2f} x the step without")
    parts: dict[str, list[float]] = defaultdict(list)
    for name, owner, function in (
        ("forward", plain.student, "forward"),
        ("backward", torch.Tensor, "backward"),
        ("clipping", nn.utils, "clip_grad_norm_"),
        ("optimizer", plain.optimizer, "step"),
        ("average", plain.average, "update"),
        ("step", plain, "update"),
    ):
        timed(owner, function, parts[name])
    for seed in range(ROUNDS):
        plain(batch(2, seed))
    for name, values in parts.items():
        print(f"{name:10} {statistics.median(values):6.2f} ms")


if __name__ == "__main__":
    main()
