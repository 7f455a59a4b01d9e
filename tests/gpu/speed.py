"""Times and memory of training steps, forward passes and predictions at the published size."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from typing import Any, Literal

import torch
from published import BATCH, batch, network, operations, training_step

from tal_bench.config import DatasetSpec, DecodeSpec, Precision, RunSpec, TrainSpec
from tal_bench.data.dataset import Video
from tal_bench.models.registry import get_model
from tal_bench.profiling.latency import synchronise
from tal_bench.profiling.memory import MB, peak_allocation
from tal_bench.profiling.model import profile_model
from tal_bench.profiling.training import training_memory
from tal_bench.system.gpus import free_gpu_memory, trainings_per_gpu
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict
from tal_bench.training.recorded_step import WARM_UP, recorded_on
from tal_bench.types import Batch

from .rows import Check, Row, Settings, beside, timed

DETECTOR, STUDENT = "actionformer", "conv-dw-hallucinated-ta"
"""Detector of most rows, and student of the steps with two teachers."""
TEACHERS = ("actionformer", "conv")
PREDICTED = 8
"""Videos of a batch of predictions."""
PREDICTED_BATCHES = 4
"""Batches of a measured prediction on a GPU, which overlap there."""
PREDICTION_AIM = 1000
"""Videos per minute at the published size that a GPU should reach."""
SECONDS = {"cpu": 1.0, "cuda": 8.0}
"""Duration of the trainings at once."""
BEGIN = 120.0
"""Seconds that trainings at once wait for each other before they begin."""


@dataclass(frozen=True)
class Step:
    """A training step to measure.

    Attributes:
        student: Registered name.
        precision: Precision of student and teachers.
        teachers: Whether with two teachers.
        graphs: Whether as a CUDA graph.
        deterministic: Whether with algorithms that repeat their results; measured in a process of its own,
            because cuBLAS has to be told before a process uses the GPU.
    """

    student: str
    precision: Precision
    teachers: bool = False
    graphs: bool = False
    deterministic: bool = False

    @property
    def name(self) -> str:
        """Name of the row."""
        parts = [f"step {self.student} {self.precision}"]
        parts += ["2 teachers"] * self.teachers + ["graphs"] * self.graphs
        return ", ".join(parts + ["deterministic"] * self.deterministic)

    def flop(self, data: DatasetSpec) -> float:
        """Floating-point operations: three forward passes of the student, one of each teacher."""
        teachers = sum(operations(name, data) for name in TEACHERS) if self.teachers else 0.0
        return BATCH * (3 * operations(self.student, data) + teachers)

    def prepare(self, device: Device, data: DatasetSpec) -> Callable[[], Any]:
        """Return a function that makes one step, after warm-up.

        Raises:
            RuntimeError: The step could not be recorded as a CUDA graph.
        """
        step = training_step(self.student, device, "student" if self.teachers else "none", data)
        videos = device.pin(batch(BATCH, data.max_length))
        if not self.graphs:
            for _ in range(WARM_UP):
                step(videos)
            return lambda: step(videos)
        recorded = recorded_on(device, step)
        for _ in range(WARM_UP + 2):
            recorded(videos)
        if recorded.why_not:
            raise RuntimeError(f"the step is not recorded: {recorded.why_not}")
        return lambda: recorded(videos)


EAGER = [Step(DETECTOR, "fp32"), Step(DETECTOR, "tf32"), Step(DETECTOR, "bf16")]
RECORDED = [Step(DETECTOR, step.precision, graphs=True) for step in EAGER]
DISTILLED = [
    Step(STUDENT, "bf16", teachers, graphs)
    for graphs, teachers in itertools.product((False, True), (False, True))
]
REPEATABLE = [replace(step, deterministic=True) for step in (EAGER[0], RECORDED[2])]


def _step(settings: Settings, step: Step) -> Iterator[Row]:
    if not step.deterministic:
        yield _timed_step(settings, step)
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        yield process.submit(_timed_step, settings, step).result(timeout=BEGIN)


def _timed_step(settings: Settings, step: Step) -> Row:
    device = Device(settings.device, step.precision, deterministic=step.deterministic)
    if settings.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    work = step.prepare(device, settings.data)
    peak = _peak(work, device)
    return Row(step.name, **timed(work, step.flop(settings.data), device.torch), peak_mb=peak)


def _peak(work: Callable[[], object], device: Device) -> float:
    """Return the peak memory in MB, see `Row.peak_mb`; on a GPU since its statistics were reset."""
    if device.torch.type == "cuda":
        synchronise(device.torch)
        return torch.cuda.max_memory_allocated() / MB
    return peak_allocation(work, device.torch) / MB


def _forward(settings: Settings, precision: Precision) -> Iterator[Row]:
    """Latency and memory of one video, and throughput of a batch."""
    device, spec = Device(settings.device, precision), network(DETECTOR, settings.data)[0]
    cost = profile_model(
        get_model(DETECTOR), spec, frames=settings.frames, device=device, threads=torch.get_num_threads()
    )
    yield Row(
        f"forward {DETECTOR} {precision}, batch 1",
        value=cost.latency_ms["median"],
        unit="ms",
        peak_mb=cost.peak_memory_mb,
        note=f"{cost.gmacs:.1f} GMACs, waiting for the device after each",
        **beside(2e9 * cost.gmacs / (cost.latency_ms["median"] / 1e3), device.torch),
    )
    if (graph := cost.latency_ms.get("graph")) is not None:
        dense = beside(2e9 * cost.gmacs / (graph / 1e3), device.torch)
        yield Row(f"forward {DETECTOR} {precision}, batch 1, graph", value=graph, unit="ms", **dense)
    elif settings.device == "cuda":
        yield Row(f"forward {DETECTOR} {precision}, batch 1, graph", "failed", note="it was not recorded")
    model = device.prepare_for_inference(network(DETECTOR, settings.data)[1])
    videos = device.pin(batch(PREDICTED, settings.frames))

    def work() -> None:
        with torch.inference_mode(), device.autocast():
            model(device.move(videos))

    flop = PREDICTED * operations(DETECTOR, settings.data)
    yield _throughput(device, f"forward {DETECTOR} {precision}, batch {PREDICTED}", work, flop, PREDICTED)


def _prediction(settings: Settings, precision: Precision) -> Iterator[Row]:
    """Throughput of `predict`, from features in the memory of the host to segments after NMS.

    Weights are random, so every video has as many candidates as the settings allow.
    """
    device, cuda = Device(settings.device, precision), settings.device == "cuda"
    architecture, model = network(DETECTOR, settings.data)
    videos = as_videos(batch(PREDICTED, settings.frames)) * (PREDICTED_BATCHES if cuda else 1)
    found: list[int] = []

    def work() -> None:
        every = predict(model, architecture, videos, DecodeSpec(), device, batch_size=PREDICTED)
        found[:] = [len(one.scores) for one in every]

    flop = len(videos) * operations(DETECTOR, settings.data)
    row = _throughput(device, f"prediction {DETECTOR} {precision}, with NMS", work, flop, len(videos))
    met = "met" if row.value is not None and row.value >= PREDICTION_AIM else "missed"
    aim = f"; aim ≥ {PREDICTION_AIM:,} videos/min: {met}" if cuda else ""
    yield replace(row, note=f"{sum(found) / len(videos):.0f} segments a video{aim}")


def as_videos(given: Batch) -> list[Video]:
    """Return the sequences of a batch as videos whose features are in memory."""
    return [
        Video(
            meta,
            {name: x[i].T.numpy() for name, x in given.features.items()},
            given.segments[i].numpy(),
            given.labels[i].numpy(),
            given.segments[i].double().numpy(),
            given.mask.shape[1],
        )
        for i, meta in enumerate(given.videos)
    ]


def _throughput(device: Device, name: str, work: Callable[[], None], flop: float, videos: int) -> Row:
    if device.torch.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    work()
    peak = _peak(work, device)
    return Row(name, **timed(work, flop, device.torch, videos=videos), peak_mb=peak)


_barrier: Barrier | None = None


def _meet(barrier: Barrier, threads: int) -> None:
    """Prepare a worker process: the barrier at which trainings meet, and its number of threads."""
    global _barrier  # noqa: PLW0603  (a worker process has no other way to receive a barrier)
    _barrier = barrier
    torch.set_num_threads(threads)


def _train(
    device: Literal["cpu", "cuda"], step: Step, data: DatasetSpec, seconds: float, wait: float
) -> float:
    """Train in a worker process once all are ready; return steps per second."""
    assert _barrier is not None
    place = Device(device, step.precision)
    work = step.prepare(place, data)
    _barrier.wait(wait)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        work()
        synchronise(place.torch)
        count += 1
    return count / (time.perf_counter() - started)


def at_once(settings: Settings, trainings: int) -> Iterator[Row]:
    """Train in several processes at once and yield the sum of their steps per second.

    On a GPU all of them share the first one, with bf16 and CUDA graphs; on the CPU each has one thread.
    """
    cuda = settings.device == "cuda"
    step = Step(DETECTOR, "bf16" if cuda else "fp32", graphs=cuda)
    context = multiprocessing.get_context("spawn")
    seconds, wait = SECONDS[settings.device], min(BEGIN, settings.remaining)
    with ProcessPoolExecutor(
        trainings, context, initializer=_meet, initargs=(context.Barrier(trainings), 1)
    ) as pool:
        jobs = [
            pool.submit(_train, settings.device, step, settings.data, seconds, wait) for _ in range(trainings)
        ]
        rates = [job.result(timeout=wait + 10 * seconds) for job in jobs]
    total = sum(rates)
    rows = [row.value for row in settings.rows if row.check == at_once_name(1)]
    single = total if trainings == 1 else next((rate for rate in rows if rate), None)
    note = f"{total / single:.2f} × one training" if single and trainings > 1 else step.name
    dense = beside(total * step.flop(settings.data), torch.device(settings.device))
    yield Row(at_once_name(trainings), value=total, unit="steps/s", note=note, **dense)


def sharing(settings: Settings) -> Iterator[Row]:
    """Measure the memory of a training as a study does, and say how many would share this GPU."""
    spec = RunSpec(
        dataset=settings.data,
        model=DETECTOR,
        detector=network(DETECTOR, settings.data)[0],
        train=TrainSpec(batch_size=BATCH),
        precision="bf16",
        device="cuda",
    )
    free = min(free_gpu_memory())
    torch.cuda.reset_peak_memory_stats()
    peak = training_memory(spec, get_model(DETECTOR), {}, graphs=True)
    number = trainings_per_gpu(free, peak, gpus=1)
    note = f"bf16, graphs, without features; {number} trainings would share this GPU"
    yield Row("memory of a training", value=peak / MB, unit="MB", note=note)


def at_once_name(trainings: int) -> str:
    """Return the name of the row of several trainings at once."""
    return f"trainings at once: {trainings}"


@dataclass(frozen=True)
class Aim:
    """Ratio of two rows, with the bound that is aimed at, if there is one."""

    name: str
    over: str
    under: str
    bound: float | None = None
    at_least: bool = True

    def row(self, settings: Settings) -> Row:
        """Return the ratio; an aim that is missed is no failure."""
        value = settings.value(self.over) / settings.value(self.under)
        if self.bound is None:
            return Row(self.name, value=value, unit="×")
        met = value >= self.bound if self.at_least else value <= self.bound
        note = f"aim {'≥' if self.at_least else '≤'} {self.bound:g}: {'met' if met else 'missed'}"
        return Row(self.name, value=value, unit="×", note=note)


FULL, HALF, GRAPH = EAGER[0].name, EAGER[2].name, RECORDED[2].name
AIMS = [
    Aim("ratio: eager fp32 step to bf16 with graphs", FULL, GRAPH, 5.0),
    Aim("ratio: eager bf16 step to bf16 with graphs", HALF, GRAPH, 3.0),
    Aim("ratio: step with 2 teachers to without", DISTILLED[3].name, DISTILLED[2].name, 1.6, at_least=False),
    Aim("ratio: deterministic bf16 step with graphs to ordinary", REPEATABLE[1].name, GRAPH),
    Aim("ratio: 4 trainings at once to 1", at_once_name(4), at_once_name(1), 2.0),
]


def _check(step: Step) -> Check:
    return Check(
        step.name,
        lambda settings: _step(settings, step),
        needs_cuda=step.graphs or step.precision == "tf32",
    )


def _aim(aim: Aim) -> Check:
    return Check(aim.name, lambda settings: [aim.row(settings)], needs_cuda=True)


CHECKS = [
    *map(_check, EAGER + RECORDED + DISTILLED + REPEATABLE),
    Check("forward fp32", lambda settings: _forward(settings, "fp32")),
    Check("forward bf16", lambda settings: _forward(settings, "bf16")),
    Check("prediction bf16", lambda settings: _prediction(settings, "bf16")),
    Check("memory of a training", sharing, needs_cuda=True),
    Check(at_once_name(1), lambda settings: at_once(settings, 1)),
    Check(at_once_name(2), lambda settings: at_once(settings, 2)),
    Check(at_once_name(4), lambda settings: at_once(settings, 4), needs_cuda=True),
    *map(_aim, AIMS),
]
