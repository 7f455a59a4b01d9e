"""What a detector costs part by part, as inputs get longer, and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from tal_bench.config import DetectorSpec
from tal_bench.models.detector import Detector
from tal_bench.models.registry import Model
from tal_bench.profiling.inputs import Place, hardware_name, random_batch, torch_threads
from tal_bench.profiling.latency import Latency, measure_latency
from tal_bench.profiling.macs import count_macs, counting
from tal_bench.profiling.memory import peak_memory_mb
from tal_bench.profiling.model import built, cost_key, count, forward_pass
from tal_bench.profiling.parameters import count_parameters
from tal_bench.results.records import CostRecord
from tal_bench.types import Batch

MODULES = ("hallucination", "backbone", "neck", "heads")
"""Parts of a detector; gated fusion of the inputs counts as backbone."""
LENGTHS = (0.25, 0.5, 1.0, 2.0)
"""Inputs that latency is measured at, times T."""
BATCH = 4
WARMUP, RUNS, SECONDS = 1, 9, 1.5
"""Of every timing: 80 models are measured in one call."""


@dataclass(frozen=True)
class Part:
    """A part of a detector: weights, and 1e9 multiply-accumulates at T."""

    params: int
    gmacs: float


@dataclass(frozen=True)
class AtLength:
    """An input of so many steps: 1e9 multiply-accumulates, and the time of a forward pass."""

    frames: int
    gmacs: float
    latency: Latency


@dataclass(frozen=True)
class Detail:
    """A detector's cost in detail.

    Attributes:
        cost: at T and batch 1, as `profile_model` gives it.
        parts: `MODULES` to their cost; empty for a module that is not built of them.
        lengths: in rising order.
        batch: videos at once.
        videos_per_second: of T steps, so many at once.
    """

    cost: CostRecord
    parts: dict[str, Part]
    lengths: tuple[AtLength, ...]
    batch: int
    videos_per_second: float


def lengths_of(frames: int, coarsest: int) -> list[int]:
    """Lengths around T that every level of a pyramid can halve."""
    wanted = (max(1, round(share * frames / coarsest)) * coarsest for share in LENGTHS)
    return sorted({*wanted, frames})


def detail_model(
    model: Model,
    architecture: DetectorSpec,
    *,
    frames: int,
    device: Place,
    threads: int,
    lengths: Sequence[int],
) -> Detail:
    """Measure a detector with random weights on noise without padding.

    Args:
        model: registered detector.
        architecture: its spec for a dataset.
        frames: T.
        device: where to measure, in which precision.
        threads: CPU threads.
        lengths: of the inputs, T among them; multiples of the largest stride.
    """
    module = built(model, architecture, device)
    timed: dict[int, AtLength] = {}
    with torch_threads(threads):
        for length in lengths:
            batch = device.move(random_batch(architecture, length))
            with device.autocast():
                macs = count_macs(module, batch)
            timed[length] = AtLength(length, macs / 1e9, _time(forward_pass(module, batch, device), device))
        batch = device.move(random_batch(architecture, frames))
        memory = peak_memory_mb(module, batch, forward_pass(module, batch, device), device.torch)
        several = forward_pass(module, _repeated(batch, BATCH), device)
        throughput = BATCH / (_time(several, device, runs=2).median / 1e3)
    params, macs = count(model, architecture, frames)
    return Detail(
        cost=CostRecord(
            key=cost_key(model, architecture, frames=frames, device=device, threads=threads),
            model=model.name,
            params=params,
            gmacs=macs / 1e9,
            frames=frames,
            latency_ms={"median": timed[frames].latency.median, "iqr": timed[frames].latency.iqr},
            peak_memory_mb=memory,
            threads=threads,
            device=hardware_name(device.torch),
            precision=device.precision,
        ),
        parts=parts(model, architecture, frames),
        lengths=tuple(timed[length] for length in sorted(timed)),
        batch=BATCH,
        videos_per_second=throughput,
    )


def _time(call: Callable[[], None], device: Place, runs: int = RUNS) -> Latency:
    return measure_latency(call, device.torch, warmup=WARMUP, runs=runs, seconds=SECONDS)


def _repeated(batch: Batch, times: int) -> Batch:
    """The same video so many times."""
    return replace(
        batch,
        features={name: x.expand(times, -1, -1).clone() for name, x in batch.features.items()},
        mask=batch.mask.expand(times, -1).clone(),
        segments=batch.segments * times,
        labels=batch.labels * times,
        videos=batch.videos * times,
    )


def parts(model: Model, architecture: DetectorSpec, frames: int) -> dict[str, Part]:
    """Weights and operations of each part of a detector, which add up to those of the whole.

    Counted as `count` counts the whole. Empty for a module of a plugin that is not a `Detector`.
    """
    try:
        return _parts(model, architecture, frames, "meta")
    except (NotImplementedError, RuntimeError):  # it needs real numbers to run
        return _parts(model, architecture, frames, "cpu")


def _parts(model: Model, architecture: DetectorSpec, frames: int, device: str) -> dict[str, Part]:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        module = model.build(architecture).eval()
        if not isinstance(module, Detector):
            return {}
        macs = _macs(module, random_batch(architecture, frames, device=device))
    weights = {
        "hallucination": _weights(module.inputs.hallucination),
        "backbone": _weights(module.backbone) + _weights(module.inputs.fusion),
        "neck": _weights(module.neck),
        "heads": _weights(module.heads),
    }
    return {name: Part(weights[name], macs[name] / 1e9) for name in MODULES}


def _weights(module: nn.Module | None) -> int:
    return 0 if module is None else count_parameters(module)


@torch.inference_mode()
def _macs(detector: Detector, batch: Batch) -> dict[str, int]:
    """Multiply-accumulates of each step of `Detector.detect`."""
    with counting() as hallucination:
        x, mask = detector.read_inputs(batch.features, batch.mask)
    with counting() as backbone:
        stem, mask = detector.compute_stem(x, mask)
        pyramid, masks = detector.backbone.compute_pyramid(stem, mask)
    masks = masks[detector.spec.first_level :]
    with counting() as neck:
        levels = detector.neck(pyramid, masks)
    with counting() as heads:
        detector.heads(levels, masks)
    counters = (hallucination, backbone, neck, heads)
    return {name: int(one.get_total_flops()) // 2 for name, one in zip(MODULES, counters, strict=True)}
