"""Measure the cost of an architecture: parameters, operations, latency and memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from tal_bench.config import DetectorSpec, content_hash, hashed_fields
from tal_bench.models.registry import Model, get_model
from tal_bench.profiling.graph_latency import graph_latency
from tal_bench.profiling.inputs import DeviceLike, hardware_name, random_batch, torch_threads
from tal_bench.profiling.latency import Latency, measure_latency
from tal_bench.profiling.macs import count_macs
from tal_bench.profiling.memory import peak_memory_mb
from tal_bench.profiling.parameters import count_parameters, inference_parameters
from tal_bench.results.records import CostRecord
from tal_bench.types import Batch, Outputs

VERSION = 1
"""Version of the method; increased when the same architecture would be measured differently."""


def cost_key(
    model: Model, architecture: DetectorSpec, *, frames: int, device: DeviceLike, threads: int
) -> str:
    """Return the key of a measurement: a hash of architecture, build function, conditions and hardware name.

    It does not depend on the registered name, so two names of one architecture share a record.
    """
    build = model.build
    while isinstance(build, functools.partial):
        build = build.func
    return content_hash(
        {
            "version": VERSION,
            "architecture": hashed_fields(architecture),
            "build": f"{build.__module__}.{getattr(build, '__qualname__', type(build).__qualname__)}",
            "frames": frames,
            "device": hardware_name(device.torch),
            "threads": threads,
            "precision": device.precision,
        }
    )


def profile_model(
    model: Model, architecture: DetectorSpec, *, frames: int, device: DeviceLike, threads: int
) -> CostRecord:
    """Measure a forward pass of batch size 1; `minute` of the record stays empty.

    Weights are random, and the input is noise without padding. Latency and memory are measured in
    `torch.inference_mode`.

    Args:
        model: Registered detector.
        architecture: Architecture of the detector for a dataset.
        frames: Number of feature steps T, a multiple of the largest stride.
        device: Device and precision of the measurement.
        threads: Number of CPU threads.
    """
    module = build_module(model, architecture, device)
    batch = device.move(random_batch(architecture, frames))
    forward = forward_pass(module, batch, device)
    with torch_threads(threads):
        latency = measure_latency(forward, device.torch)
        graph = graph_latency(forward, device, lambda call: measure_latency(call, device.torch))
        memory = peak_memory_mb(module, batch, forward, device.torch)
    return cost_record(
        model, architecture, latency, memory, graph=graph, frames=frames, device=device, threads=threads
    )


def cost_record(
    model: Model,
    architecture: DetectorSpec,
    latency: Latency,
    peak_memory_mb: float,
    *,
    graph: Latency | None,
    frames: int,
    device: DeviceLike,
    threads: int,
) -> CostRecord:
    """Return the record of a measurement, with the counted parameters and operations."""
    params, macs = count(model, architecture, frames)
    latency_ms = {"median": latency.median, "iqr": latency.iqr}
    if graph is not None:
        latency_ms["graph"] = graph.median
    return CostRecord(
        key=cost_key(model, architecture, frames=frames, device=device, threads=threads),
        model=model.name,
        params=params,
        gmacs=macs / 1e9,
        frames=frames,
        latency_ms=latency_ms,
        peak_memory_mb=peak_memory_mb,
        threads=threads,
        device=hardware_name(device.torch),
        precision=device.precision,
    )


def build_module(model: Model, architecture: DetectorSpec, device: DeviceLike) -> nn.Module:
    """Build a model with random weights on the device, without changing the state of the random generator."""
    with torch.random.fork_rng(devices=[]):
        return device.prepare_for_inference(model.build(architecture))


def forward_pass(module: nn.Module, batch: Batch, device: DeviceLike) -> Callable[[], Outputs]:
    """Return the function that runs one forward pass and returns its output."""

    def forward() -> Outputs:
        with torch.inference_mode(), device.autocast():
            output: Outputs = module(batch)
        return output

    return forward


def count(model: Model, architecture: DetectorSpec, frames: int) -> tuple[int, int]:
    """Count the parameters for inference and the multiply-accumulates of a forward pass at T = ``frames``.

    Both are counted on the CPU. The meta device would compute nothing, but it has no autocast, and torch
    imports its compiler for the first random numbers there, which takes longer than a forward pass.
    """
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = model.build(architecture).eval()
    batch = random_batch(architecture, frames)
    macs = count_macs(module, batch)
    if all(p.is_floating_point() for p in module.parameters()):
        params = inference_parameters(module.requires_grad_(True), batch)
    else:
        params = count_parameters(module)
    return params, macs


@functools.lru_cache(maxsize=256)
def count_registered(model: str, detector: str, frames: int) -> tuple[int, int]:
    """Return `count` of a registered model for an architecture as JSON, computed once."""
    return count(get_model(model), DetectorSpec.model_validate_json(detector), frames)
