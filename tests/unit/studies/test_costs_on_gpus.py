"""Runs and costs of a study on a GPU: where they are computed, and under which key they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from study_parts import result_of, run_specs
from tiny import tiny_spec

from tal_bench.models.registry import get_model
from tal_bench.profiling.model import cost_key
from tal_bench.profiling.training import training_key
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import CostRecord, RowRecord, TrainingCost
from tal_bench.studies import costs
from tal_bench.studies.run import JobFactory
from tal_bench.training.device import Device

MODEL = "conv-primary"


def profiled(model: Any, architecture: Any, *, frames: int, device: Device, threads: int) -> CostRecord:
    """Stand-in for the measurement of a model."""
    return CostRecord(
        key=cost_key(model, architecture, frames=frames, device=device, threads=threads),
        model=model.name,
        params=1,
        gmacs=1.0,
        frames=frames,
        latency_ms={"median": 1.0, "iqr": 0.0},
        peak_memory_mb=1.0,
        threads=threads,
        device=torch.cuda.get_device_name(),
        precision=device.precision,
    )


def profiled_step(spec: Any, student: Any, teachers: Any, *, device: Device, threads: int) -> TrainingCost:
    """Stand-in for the measurement of a training step."""
    return TrainingCost(
        key=training_key(spec, teachers, device=device, threads=threads),
        step_ms={"median": 1.0, "iqr": 0.0},
        peak_memory_mb=1.0,
        dropped_params=0,
        batch_size=spec.train.batch_size,
        frames=spec.detector.max_length,
        threads=threads,
        device=torch.cuda.get_device_name(),
        precision=device.precision,
    )


def test_runs_name_their_kind_of_device() -> None:
    hashes = set()
    for device in ("cpu", "cuda"):
        spec = run_specs(device=device).on_labels(MODEL, "final", 0, {})
        assert spec.device == device
        hashes.add(spec.hash)
    assert len(hashes) == 2, "results of the CPU are not those of a GPU"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is measured, and on which device, by a study on a GPU."""
    calls: list[tuple[str, str]] = []

    def extraction(dataset: Any, device: str) -> dict[str, float]:
        calls.append(("extraction", device))
        return {"decode": 1.0, "flow": 1.0, "backbone/rgb": 1.0}

    def detector(*args: Any, device: Device, **named: Any) -> float:
        calls.append(("detector", device.torch.type))
        return 1.0

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "GPU one")
    monkeypatch.setattr(costs, "load_trained", lambda run, folder: (None, None))
    monkeypatch.setattr(costs, "profile_model", profiled)
    monkeypatch.setattr(costs, "profile_training", profiled_step)
    monkeypatch.setattr(costs, "extraction_seconds", extraction)
    monkeypatch.setattr(costs, "detector_seconds_per_minute", detector)
    return calls


def measure(folder: Path) -> CostRecord:
    """Measure a row of a study on a GPU, and return the cost that its record refers to."""
    specs = run_specs(device="cuda", dataset=tiny_spec().model_copy(update={"fps": 10.0}))
    spec = specs.on_labels(MODEL, "final", 0, {})
    files = StudyFolder(folder)
    files.write_run(result_of(spec))
    row = RowRecord(name=MODEL, kind="teacher", model=MODEL, modalities="rgb", finals=(spec.hash,))
    (known,) = costs.measure_costs(specs, JobFactory(folder), [row], Console(quiet=True))
    assert files.read_training_cost(known.training) is not None
    cost = files.read_cost(known.cost)
    assert cost is not None
    return cost


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_all_of_a_minute_is_measured_on_one_device(
    where: str, measured: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "extraction_device", lambda dataset, device: where)
    cost = measure(tmp_path)
    assert measured == [("extraction", where), ("detector", where)]
    assert (cost.minute_device == "GPU one") == (where == "cuda") and cost.device == "GPU one"


def test_costs_of_another_gpu_are_measured_again(
    measured: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "extraction_device", lambda dataset, device: device)
    first = measure(tmp_path)
    assert measure(tmp_path) == first and len(measured) == 2
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "GPU two")
    second = measure(tmp_path)
    assert second.device == second.minute_device == "GPU two" and second.key != first.key
    assert measured == [("extraction", "cuda"), ("detector", "cuda")] * 2


def test_keys_of_costs_name_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = run_specs()
    spec, model = specs.on_labels(MODEL, "final", 0, {}), get_model(MODEL)

    def keys(device: str) -> tuple[str, str]:
        where = Device(device)
        return (
            cost_key(model, spec.detector, frames=64, device=where, threads=1),
            training_key(spec, {}, device=where, threads=1),
        )

    found = {keys("cpu")}
    for name in ("GPU one", "GPU two"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None, name=name: name)
        found.add(keys("cuda"))
    assert len(found) == len({step for _, step in found}) == len({model for model, _ in found}) == 3
