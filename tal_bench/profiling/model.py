"""What an architecture costs: one record of weights, operations, time and memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from tal_bench.config import DetectorSpec, content_hash
from tal_bench.models.registry import Model
from tal_bench.profiling.inputs import Place, hardware_name, random_batch, torch_threads
from tal_bench.profiling.latency import measure_latency
from tal_bench.profiling.macs import count_macs
from tal_bench.profiling.memory import peak_memory_mb
from tal_bench.profiling.parameters import count_parameters, inference_parameters
from tal_bench.results.records import CostRecord
from tal_bench.types import Batch

VERSION = 1
"""Raised when the same architecture would be measured differently."""


def cost_key(model: Model, architecture: DetectorSpec, *, frames: int, device: Place, threads: int) -> str:
    """Identity of a measurement: architecture, build function and conditions, the hardware's name included.

    Registered names do not count: two names for one architecture share a record.
    """
    build = model.build
    while isinstance(build, functools.partial):
        build = build.func
    return content_hash(
        {
            "version": VERSION,
            "architecture": architecture.model_dump(mode="json"),
            "build": f"{build.__module__}.{getattr(build, '__qualname__', type(build).__qualname__)}",
            "frames": frames,
            "device": hardware_name(device.torch),
            "threads": threads,
            "precision": device.precision,
        }
    )


def profile_model(
    model: Model, architecture: DetectorSpec, *, frames: int, device: Place, threads: int
) -> CostRecord:
    """Measure a forward pass of batch 1; the record's `minute` stays empty.

    Weights are random, inputs noise without padding. Latency and memory are of `torch.inference_mode`.

    Args:
        model: registered detector.
        architecture: its spec for a dataset.
        frames: T, the number of feature steps; a multiple of the largest stride.
        device: where to measure, in which precision.
        threads: CPU threads.
    """
    params, macs = count(model, architecture, frames)
    module = built(model, architecture, device)
    batch = device.move(random_batch(architecture, frames))
    forward = forward_pass(module, batch, device)
    with torch_threads(threads):
        latency = measure_latency(forward, device.torch)
        memory = peak_memory_mb(module, batch, forward, device.torch)
    return CostRecord(
        key=cost_key(model, architecture, frames=frames, device=device, threads=threads),
        model=model.name,
        params=params,
        gmacs=macs / 1e9,
        frames=frames,
        latency_ms={"median": latency.median, "iqr": latency.iqr},
        peak_memory_mb=memory,
        threads=threads,
        device=hardware_name(device.torch),
        precision=device.precision,
    )


def built(model: Model, architecture: DetectorSpec, device: Place) -> nn.Module:
    """A model with random weights where it is measured; whoever measures keeps its random numbers' state."""
    with torch.random.fork_rng(devices=[]):
        return device.prepare_for_inference(model.build(architecture))


def forward_pass(module: nn.Module, batch: Batch, device: Place) -> Callable[[], None]:
    """The call that is timed."""

    def forward() -> None:
        with torch.inference_mode(), device.autocast():
            module(batch)

    return forward


def count(model: Model, architecture: DetectorSpec, frames: int) -> tuple[int, int]:
    """Weights that inference needs, and multiply-accumulates of a forward pass at T = ``frames``.

    Counted on the meta device, where nothing is computed; a module that needs real numbers to run is counted
    on the CPU.
    """
    try:
        return _count(model, architecture, frames, "meta")
    except (NotImplementedError, RuntimeError):
        return _count(model, architecture, frames, "cpu")


def _count(model: Model, architecture: DetectorSpec, frames: int, device: str) -> tuple[int, int]:
    with torch.device(device):
        module: nn.Module = model.build(architecture).eval()
        batch = random_batch(architecture, frames, device=device)
        macs = count_macs(module, batch)
        if all(p.is_floating_point() for p in module.parameters()):
            params = inference_parameters(module.requires_grad_(True), batch)
        else:
            params = count_parameters(module)
    return params, macs
