"""How many trainings share a GPU: what is measured, of which run, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from fake_gpu import CpuAsGpu
from study_parts import run_specs

from tal_bench.config import DetectorSpec, Range, RowSpec, RunSpec, StudySpec
from tal_bench.execution import gpu_sharing
from tal_bench.execution.gpu_sharing import jobs_on_gpus
from tal_bench.models.registry import get_model
from tal_bench.models.size_space import SEARCH
from tal_bench.profiling import training
from tal_bench.profiling.training import CONTEXT_BYTES, training_memory
from tal_bench.studies import run_specs as specs_module
from tal_bench.studies.plan import StudyPlan, make_plan
from tal_bench.system import gpus
from tal_bench.system.gpus import BYTES_PER_JOB, MOST_PER_GPU, DeviceUnavailableError, trainings_per_gpu


@pytest.mark.parametrize(
    ("free", "peak", "count", "cores", "expected"),
    [
        (140e9, 3e9, 1, 16, MOST_PER_GPU),
        (24e9, 4e9, 1, 16, 3),
        (24e9, 4e9, 8, 16, 2),
        (24e9, 4e9, 1, 1, 1),
        (24e9, 20e9, 1, 16, 1),
        (1.5 * BYTES_PER_JOB, 1e6, 1, 16, 1),
        (2.5 * BYTES_PER_JOB, 1e6, 1, 16, 2),
    ],
)
def test_trainings_share_a_gpu_as_far_as_memory_and_cores_allow(
    free: float, peak: float, count: int, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "usable_cores", lambda: cores)
    assert trainings_per_gpu(int(free), int(peak), count) == expected


def plan(*names: str) -> StudyPlan:
    rows = tuple(RowSpec(name=name, variant=name) for name in names)
    return make_plan(StudySpec(name="s", rows=rows), run_specs())


def test_the_largest_training_has_both_teachers() -> None:
    found = plan("none", "self", "both").largest()
    assert found is not None
    spec, teachers = found
    assert spec.distill is not None and len(spec.distill.teachers) == 2
    assert {name for name, _ in teachers.values()} == {use.model for use in spec.distill.teachers.values()}
    found = plan("none").largest()
    assert found is not None and found[0].distill is None


class InThread(ThreadPoolExecutor):
    """Stands for the process of its own."""

    def __init__(self, jobs: int, prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        super().__init__(jobs)
        assert arguments == ("cuda", ())


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """A run, on a machine with two GPUs and cores for all."""
    monkeypatch.setattr(gpu_sharing, "SpawnedProcesses", InThread)
    monkeypatch.setattr(gpu_sharing, "visible_gpus", lambda: ("0", "1"))
    monkeypatch.setattr(gpus, "usable_cores", lambda: 16)
    return run_specs().on_labels("conv-dw-hallucinated", "final", 0, {})


def test_the_fullest_gpu_and_the_measured_memory_decide(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def memory(given: RunSpec, student: Any, teachers: Any, *, graphs: bool) -> int:
        seen.append(
            (given, student.name, {role: model.name for role, (model, _) in teachers.items()}, graphs)
        )
        return int(4e9)

    monkeypatch.setattr(gpu_sharing, "free_gpu_memory", lambda: [int(80e9), int(25e9)])
    monkeypatch.setattr(gpu_sharing, "training_memory", memory)
    teachers = {"modal": ("conv", spec.detector)}
    assert jobs_on_gpus(lambda: (spec, teachers), graphs=True, most=100) == 6
    assert seen == [(spec, "conv-dw-hallucinated", {"modal": "conv"}, True)]
    assert jobs_on_gpus(lambda: (spec, {}), graphs=True, most=5) == 5
    assert len(seen) == 2
    for most in (0, 1, 2):
        assert jobs_on_gpus(lambda: (spec, {}), graphs=True, most=most) == 2
    assert jobs_on_gpus(lambda: None, graphs=True, most=5) == 2, "only imported models"
    assert len(seen) == 2, "two runs have a GPU each, whatever their memory"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out of memory"), DeviceUnavailableError("GPU 1 cannot be opened")]
)
def test_without_a_measurement_every_gpu_has_one_worker(
    spec: RunSpec, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **named: Any) -> int:
        raise error

    monkeypatch.setattr(gpu_sharing, "free_gpu_memory", lambda: [int(80e9)] * 2)
    monkeypatch.setattr(gpu_sharing, "training_memory", fails)
    with caplog.at_level(logging.WARNING):
        assert jobs_on_gpus(lambda: (spec, {}), graphs=False, most=100) == 2
    (line,) = caplog.messages
    assert line.startswith("one training per GPU") and line.endswith(str(error))


def test_a_model_that_cannot_be_counted_does_not_end_the_study(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(model: str, detector: str, frames: int) -> tuple[int, int]:
        raise ZeroDivisionError(f"{model} has no layers")

    monkeypatch.setattr(gpu_sharing, "visible_gpus", lambda: ("0",))
    monkeypatch.setattr(specs_module, "count_registered", broken)
    assert jobs_on_gpus(plan("none", "both").largest, graphs=True, most=100) == 1
    (line,) = caplog.messages
    assert line.startswith("one training per GPU") and line.endswith("has no layers")


def test_sizes_that_are_searched_have_their_largest_value() -> None:
    search = {"student/width": Range(low=16, high=90, log=False, step=16), "student/kernel": (5.0, 1.0)}
    alone: dict[str, Any] = {"name": "s", "references": (), "baseline": False}

    def student(**more: Any) -> DetectorSpec:
        found = make_plan(StudySpec(**alone, **more), run_specs()).largest()
        assert found is not None
        return found[0].detector

    assert student(variants=("none",)).width < 80
    searched = student(variants=("none",), search=search)
    assert (searched.width, searched.head_width, searched.embed_kernel) == (80, 80, 5)
    held = RowSpec(name="held", variant="none", settings={"student/width": 32.0})
    assert student(rows=(held,), search=search).width == 32, "what is held is not searched"
    front = student(variants=("none",), objective=("map", "gmacs"), sampler="nsga2")
    assert front.width == SEARCH["small"]["width"].high


def test_the_memory_of_a_training_is_read_after_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CpuAsGpu] = []

    def device(name: str, precision: Any, *, deterministic: bool) -> CpuAsGpu:
        made.append(CpuAsGpu(monkeypatch, precision))
        made[-1].torch = torch.device("cpu")
        return made[-1]

    steps: list[int] = []
    real = training.TrainingStep.__call__
    monkeypatch.setattr(training.TrainingStep, "__call__", lambda *rest: steps.append(1) or real(*rest))
    monkeypatch.setattr(training, "Device", device)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 1000 * len(steps))
    spec = run_specs().on_labels("conv-dw-hallucinated", "final", 0, {})
    assert training_memory(spec, get_model(spec.model), {}, graphs=False) == 5000 + CONTEXT_BYTES
    assert made[0].pinned == 1
