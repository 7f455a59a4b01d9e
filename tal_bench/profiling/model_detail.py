"""Measure the cost of a detector by part, by input length, and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from tal_bench.config import DetectorSpec
from tal_bench.models.detector import Detector
from tal_bench.models.registry import Model
from tal_bench.profiling.graph_latency import graph_latency
from tal_bench.profiling.inputs import DeviceLike, random_batch, torch_threads
from tal_bench.profiling.latency import Latency, measure_latency
from tal_bench.profiling.macs import count_macs, mac_counter
from tal_bench.profiling.memory import peak_memory_mb
from tal_bench.profiling.model import build_module, cost_record, forward_pass
from tal_bench.profiling.parameters import count_parameters
from tal_bench.results.records import CostRecord
from tal_bench.types import Batch

MODULES = ("hallucination", "backbone", "neck", "heads")
"""Parts of a detector; the gated fusion of the inputs belongs to the backbone, two branches to the heads."""
LENGTHS = (0.25, 0.5, 1.0, 2.0)
"""Input lengths at which latency is measured, relative to T."""
BATCH = 4
WARMUP, RUNS, SECONDS = 1, 9, 1.5
"""Settings of every latency measurement; they are small because one call measures up to 80 models."""


@dataclass(frozen=True)
class PartCost:
    """Cost of a part of a detector: parameters, and 1e9 multiply-accumulates at T."""

    params: int
    gmacs: float


@dataclass(frozen=True)
class LengthCost:
    """Cost of a forward pass at one input length: 1e9 multiply-accumulates, and latency."""

    frames: int
    gmacs: float
    latency: Latency


@dataclass(frozen=True)
class DetailedCost:
    """Detailed cost of a detector.

    Attributes:
        cost: Cost at T and batch size 1, as returned by `profile_model`.
        parts: Cost of each of `MODULES`; empty for a module that is not a `Detector`.
        lengths: Cost by input length, in increasing order.
        batch: Batch size of `videos_per_second`.
        videos_per_second: Throughput for videos of T steps.
    """

    cost: CostRecord
    parts: dict[str, PartCost]
    lengths: tuple[LengthCost, ...]
    batch: int
    videos_per_second: float


def lengths_of(frames: int, coarsest: int) -> list[int]:
    """Return input lengths around T that are multiples of the largest stride."""
    lengths = (max(1, round(share * frames / coarsest)) * coarsest for share in LENGTHS)
    return sorted({*lengths, frames})


def detail_model(
    model: Model,
    architecture: DetectorSpec,
    *,
    frames: int,
    device: DeviceLike,
    threads: int,
    lengths: Sequence[int],
) -> DetailedCost:
    """Measure a detector with random weights on noise without padding.

    Args:
        model: Registered detector.
        architecture: Architecture of the detector for a dataset.
        frames: Number of feature steps T.
        device: Device and precision of the measurement.
        threads: Number of CPU threads.
        lengths: Input lengths, including T; multiples of the largest stride.
    """
    module = build_module(model, architecture, device)
    by_length: dict[int, LengthCost] = {}
    with torch_threads(threads):
        for length in lengths:
            batch = device.move(random_batch(architecture, length))
            with device.autocast():
                macs = count_macs(module, batch)
            by_length[length] = LengthCost(
                length, macs / 1e9, _time(forward_pass(module, batch, device), device)
            )
        batch = device.move(random_batch(architecture, frames))
        forward = forward_pass(module, batch, device)
        graph = graph_latency(forward, device, lambda call: _time(call, device))
        memory = peak_memory_mb(module, batch, forward, device.torch)
        batched = forward_pass(module, _repeat(batch, BATCH), device)
        throughput = BATCH / (_time(batched, device, runs=2).median / 1e3)
    latency = by_length[frames].latency
    return DetailedCost(
        cost=cost_record(
            model, architecture, latency, memory, graph=graph, frames=frames, device=device, threads=threads
        ),
        parts=cost_by_part(model, architecture, frames),
        lengths=tuple(by_length[length] for length in sorted(by_length)),
        batch=BATCH,
        videos_per_second=throughput,
    )


def _time(call: Callable[[], object], device: DeviceLike, runs: int = RUNS) -> Latency:
    return measure_latency(call, device.torch, warmup=WARMUP, runs=runs, seconds=SECONDS)


def _repeat(batch: Batch, times: int) -> Batch:
    """Return a batch with the same video several times."""
    return replace(
        batch,
        features={name: x.expand(times, -1, -1).clone() for name, x in batch.features.items()},
        mask=batch.mask.expand(times, -1).clone(),
        segments=batch.segments * times,
        labels=batch.labels * times,
        videos=batch.videos * times,
    )


def cost_by_part(model: Model, architecture: DetectorSpec, frames: int) -> dict[str, PartCost]:
    """Count the parameters and operations of each part of a detector, which add up to the total of `count`.

    Returns an empty dictionary for a module of a plugin that is not a `Detector`.
    """
    with torch.random.fork_rng(devices=[]):
        module = model.build(architecture).eval()
    if not isinstance(module, Detector):
        return {}
    macs = _macs(module, random_batch(architecture, frames))
    params = {
        "hallucination": _count(module.inputs.hallucination),
        "backbone": _count(module.backbone) + _count(module.inputs.fusion),
        "neck": _count(module.neck),
        "heads": _count(module.branches) + _count(module.heads),
    }
    return {name: PartCost(params[name], macs[name] / 1e9) for name in MODULES}


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else count_parameters(module)


@torch.inference_mode()
def _macs(detector: Detector, batch: Batch) -> dict[str, int]:
    """Count the multiply-accumulates of each step of `Detector.detect`; whitening belongs to the backbone."""
    with mac_counter() as hallucination:
        x, mask = detector.read_inputs(batch.features, batch.mask)
    with mac_counter() as whitening:
        detector.inputs.read(batch.features, mask)
    with mac_counter() as backbone:
        stem, mask = detector.compute_stem(x, mask)
        pyramid, masks = detector.backbone.compute_pyramid(stem, mask)
    masks = masks[detector.spec.first_level :]
    with mac_counter() as neck:
        levels = detector.neck(pyramid, masks)
    with mac_counter() as heads:
        detector.compute_heads(levels, masks)
    counters = (hallucination, backbone, neck, heads)
    macs = {name: counter.macs for name, counter in zip(MODULES, counters, strict=True)}
    macs["hallucination"] -= whitening.macs
    macs["backbone"] += whitening.macs
    return macs
