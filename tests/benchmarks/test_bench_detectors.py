"""Forward pass and training step at the published size, relative to dense fp32 throughput.

The bounds are for a CPU with matrix units for bf16 (AMX) and two threads; `extra_info` contains the
measurements.
"""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch
from published import (
    BATCH,
    PLACES,
    Precision,
    batch,
    measure,
    network,
    operations,
    times,
    training_step,
)

from tal_bench.training.device import Device

pytestmark = pytest.mark.usefixtures("published_threads")
AMX = "amx" in torch.backends.cpu.get_cpu_capability().lower() or torch.cpu._is_amx_tile_supported()
ACTIONFORMER = {"fp32": (0.75, 0.70), "bf16": (2.4, 2.0)}
"""Minimum efficiency of a forward pass and of a training step, by precision."""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "name", ["actionformer", "conv", "conv-dw-primary", "conv-dw-hallucinated-ta", "tridet", "temporalmaxer"]
)
@pytest.mark.parametrize("place", PLACES)
def test_forward(benchmark: Any, place: str, name: str, precision: Precision) -> None:
    device = Device(place, precision)
    model, video = device.prepare_for_inference(network(name)[1]), device.move(batch(1))

    def forward() -> None:
        with torch.inference_mode(), device.autocast():
            model(video)

    measured = measure(benchmark, forward, operations(name), device, rounds=9)
    if place == "cpu" and AMX and name == "actionformer":
        assert measured.efficiency >= ACTIONFORMER[precision][0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["actionformer", "conv-dw-hallucinated-ta"])
@pytest.mark.parametrize("place", PLACES)
def test_training_step(benchmark: Any, place: str, name: str, precision: Precision) -> None:
    device = Device(place, precision)
    step, videos = training_step(name, device), batch(BATCH)
    if place == "cuda":
        torch.cuda.reset_peak_memory_stats()
    measured = measure(benchmark, lambda: step(videos), 3 * BATCH * operations(name), device, rounds=9)
    if place == "cuda":
        benchmark.extra_info["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    elif AMX and name == "actionformer":
        assert measured.efficiency >= ACTIONFORMER[precision][1]


@pytest.mark.parametrize(
    ("student", "teachers", "most"),
    [("fp32", "student", 1.75), ("bf16", "student", 1.75), ("fp32", "bf16", 1.25)],
)
@pytest.mark.parametrize("place", PLACES)
def test_step_with_both_teachers(
    benchmark: Any, place: str, student: Precision, teachers: Any, most: float
) -> None:
    """Bound the time of a step relative to one without distillation."""
    device = Device(place, student)
    name, videos = "conv-dw-hallucinated-ta", batch(BATCH)
    baseline = training_step(name, device)
    distilled = training_step(name, device, teachers)
    seconds = times(benchmark, lambda: distilled(videos), lambda: baseline(videos), device, rounds=15)
    ratio = statistics.median(with_teachers / without for with_teachers, without in seconds)
    benchmark.extra_info["ratio"] = round(ratio, 3)
    if place == "cpu" and AMX:
        assert ratio <= most
