from __future__ import annotations

import math
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tal_bench.config import DatasetSpec, DecodeSpec, DetectorSpec, ModalitySpec
from tal_bench.data.registry import datasets
from tal_bench.errors import InputError
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.models.detector import Detector
from tal_bench.models.ops.op_shortcuts import without_shortcuts
from tal_bench.models.registry import Model, detector_spec, get_model
from tal_bench.profiling import video_minute as module
from tal_bench.profiling.inputs import random_batch
from tal_bench.profiling.latency import measure_latency
from tal_bench.profiling.macs import count_macs
from tal_bench.profiling.memory import peak_allocation, tensor_bytes
from tal_bench.profiling.model import cost_key, count, profile_model
from tal_bench.profiling.parameters import inference_parameters
from tal_bench.profiling.video_minute import (
    RUNS,
    detector_seconds_per_minute,
    extraction_device,
    extraction_seconds,
    minute_of_video,
    steps_per_minute,
)
from tal_bench.training.prediction import decode
from tal_bench.types import Batch, DetectorOutput

CPU = torch.device("cpu")

PUBLISHED = {  # parameters, GMACs at 2048 channels x 2304 steps, counted by fvcore on the original programs
    "actionformer": (29251612, 45.250),
    "conv": (30468124, 45.584),
    "conv-dw": (13223452, 25.250),
    "conv-ta": (32237164, 45.586),
    "conv-hallucinated-ta": (38530668, 60.081),
    "conv-dw-hallucinated-ta": (21285996, 39.747),
}


class FakeDevice:
    """CPU device without preparation."""

    torch = CPU
    precision = "fp32"

    def move(self, batch: Batch) -> Batch:
        return batch

    def prepare_for_inference(self, model: nn.Module) -> nn.Module:
        return model.eval()

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext()


def dataset(*, fps: float | None = 8.0, size: str = "small") -> DatasetSpec:
    return DatasetSpec(
        name="made",
        annotations=Path("nowhere.json"),
        modalities={
            "rgb": ModalitySpec(role="primary", folder=Path("rgb"), channels=1024),
            "flow": ModalitySpec(role="privileged", folder=Path("flow"), channels=1024),
        },
        stride=2,
        window=2,
        fps=fps,
        max_length=2304 if size == "full" else 64,
        size=size,  # type: ignore[arg-type]
    )


def small(name: str) -> tuple[Model, DetectorSpec]:
    model = get_model(name)
    return model, detector_spec(model, dataset(), 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_of_published_models(name: str) -> None:
    model = get_model(name)
    params, macs = count(model, detector_spec(model, dataset(size="full"), 20), 2304)
    assert params == PUBLISHED[name][0]
    # A little more: one empty step between the levels in the heads, and margins of attention blocks.
    assert macs / 1e9 == pytest.approx(PUBLISHED[name][1], rel=0.0015)


def test_hallucination_costs_more_than_the_depthwise_backbone() -> None:
    spec = dataset(size="full")
    with_it, without = (
        count(get_model(name), detector_spec(get_model(name), spec, 20), 2304)
        for name in ("conv-dw-hallucinated", "conv-dw")
    )
    assert with_it[0] - without[0] == 2 * (3 * 1024 * 1024 + 1024)
    assert (with_it[1] - without[1]) / 1e9 == pytest.approx(14.496, rel=1e-3)


class Toy(nn.Module):
    """Products of every kind with known costs, an unused layer, and a number read from a tensor."""

    def __init__(self, *, needs_numbers: bool = False) -> None:
        super().__init__()
        self.needs_numbers = needs_numbers
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8)
        self.training_only = nn.Linear(8, 100)
        self.shared = self.conv

    def forward(self, batch: Batch) -> Any:
        x = self.depthwise(self.conv(batch.features["rgb"]))
        x = self.norm(x.transpose(1, 2))
        self.training_only(x)
        if self.needs_numbers:
            x = x * float(x.detach().sum())
        return DetectorOutput([x], [x[:, :, :2]], [batch.mask], x, x)


TOY = DetectorSpec(structure="conv", inputs="primary", primary={"rgb": 4}, classes=8)


def test_macs_are_counted_once() -> None:
    T = 16
    macs = count_macs(Toy().eval(), random_batch(TOY, T))
    assert macs == T * (4 * 8 * 3 + 8 * 3 + 8 * 100)


@pytest.mark.parametrize("name", ["actionformer", "conv-dw-hallucinated-ta", "tridet"])
def test_macs_are_half_of_the_flops_that_torch_counts(name: str) -> None:
    model, architecture = small(name)
    net, batch = model.build(architecture).eval(), random_batch(architecture, 64)
    products = {
        operation: lambda y, a, b, out_shape=None, **named: 2 * math.prod(a) * b[-1]
        for operation in (torch.ops.aten.addmm_, torch.ops.aten.baddbmm_)
    }
    theirs = FlopCounterMode(display=False, custom_mapping=products)
    with without_shortcuts(), torch.inference_mode(), theirs:
        net(batch)
    assert count_macs(net, batch) == theirs.get_total_flops() // 2


def test_a_profile_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch._inductor.config", "torch._dynamo", "torch.fx.experimental.symbolic_shapes"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it would raise
    model, spec = small("conv-dw-hallucinated")
    profile_model(model, spec, frames=64, device=FakeDevice(), threads=1)


def test_parameters_used_only_in_training_are_not_counted() -> None:
    toy = Toy().eval()
    used = sum(p.numel() for layer in (toy.conv, toy.depthwise, toy.norm) for p in layer.parameters())
    assert inference_parameters(toy, random_batch(TOY, 16)) == used


def test_modules_that_read_numbers_from_tensors_are_counted() -> None:
    plain = Model("toy", "conv", "primary", build=lambda _: Toy())
    needy = Model("toy", "conv", "primary", build=lambda _: Toy(needs_numbers=True))
    assert count(plain, TOY, 16) == count(needy, TOY, 16)


@pytest.mark.parametrize("name", ["actionformer-small", "conv-dw-hallucinated-ta-small"])
def test_operations_grow_linearly_with_time(name: str) -> None:
    model = get_model(name)
    spec = detector_spec(model, dataset(), 3).model_copy(update={"temporal_attention": False})
    one, two = (count(model, spec, 1152 * k)[1] for k in (1, 2))
    assert two == pytest.approx(2 * one, rel=0.002)


def test_latency_is_the_median_of_the_timed_calls() -> None:
    calls: list[float] = []

    def call() -> None:
        calls.append(1)
        time.sleep(0.002 if len(calls) != 4 else 0.2)  # one slow outlier

    latency = measure_latency(call, warmup=2, runs=8)
    assert latency.runs == 8 and len(calls) == 10
    assert 2.0 <= latency.median < 150 and latency.iqr < 190
    assert measure_latency(lambda: time.sleep(0.01), warmup=0, runs=99, seconds=0.0).runs == 5


def test_peak_of_live_tensors() -> None:
    n = 100_000
    x = torch.zeros(n)

    def chain(steps: int) -> Tensor:
        y = x + 1
        for _ in range(steps):
            y = y + 1  # old and new live together, older ones are gone
        return y

    def keep_all() -> list[Tensor]:
        return [x + k for k in range(5)]

    for steps in (1, 6):
        assert peak_allocation(partial(chain, steps), CPU) == pytest.approx(8 * n, rel=0.01)
    assert peak_allocation(keep_all, CPU) == pytest.approx(20 * n, rel=0.01)
    assert peak_allocation(lambda: x.add_(1), CPU) < 0.01 * n


def test_freeing_older_memory_does_not_hide_a_peak() -> None:
    held = [torch.zeros(1_000_000)]

    def call() -> None:
        held.clear()
        held.append(torch.zeros(500_000))

    call()
    assert peak_allocation(call, CPU) >= 2_000_000


def test_shared_storage_counts_once() -> None:
    x = torch.zeros(10, 10)
    assert tensor_bytes([x, x[2:], x.T, torch.zeros(5)]) == 420


def test_profile_record_is_complete_and_keyed_by_conditions() -> None:
    model, spec = small("conv-dw-hallucinated")
    record = profile_model(model, spec, frames=64, device=FakeDevice(), threads=1)
    weights = sum(p.numel() for p in Detector(spec).parameters())
    assert record.params == weights and record.frames == 64 and record.threads == 1
    assert record.latency_ms["median"] > 0 and record.latency_ms["iqr"] >= 0
    least = 4 * (weights + 64 * (1024 + 2048)) / 1e6  # weights, input, and the input with the hallucination
    assert least < record.peak_memory_mb < 3 * least
    assert record.minute == {} and record.minute_alternatives == {}
    key = partial(cost_key, model, device=FakeDevice())
    assert record.key == key(spec, frames=64, threads=1)
    wider = spec.model_copy(update={"width": 128})
    assert len({record.key, key(spec, frames=32, threads=1), key(spec, frames=64, threads=2),
                key(wider, frames=64, threads=1)}) == 4  # fmt: skip


def test_key_depends_on_the_build_function_and_not_on_the_name() -> None:
    key = partial(cost_key, architecture=TOY, frames=64, device=FakeDevice(), threads=1)
    one, renamed = (Model(n, "conv", "primary") for n in ("a", "b"))
    assert key(one) == key(renamed) != key(Model("a", "conv", "primary", build=lambda _: Toy()))
    assert key(Model("c", "conv", "primary", build=partial(Detector))) == key(one)


def test_detector_is_measured_with_padding_and_decoding() -> None:
    model, spec = small("conv-primary")
    seen: list[tuple[int, int]] = []

    def decoder(output: Any, videos: Any) -> Any:
        seen.append((output.mask[0].shape[1], int(output.mask[0].sum())))
        return decode(output, videos, DecodeSpec())

    seconds = detector_seconds_per_minute(model.build(spec), spec, decoder, steps=40, device=FakeDevice())
    assert seconds > 0 and set(seen) == {(64, 40)}
    seen.clear()
    detector_seconds_per_minute(model.build(spec), spec, decoder, steps=230, device=FakeDevice())
    divisor = pyramid_divisor(spec)
    assert set(seen) == {(-(-230 // divisor) * divisor, 230)} != {(230, 230)}


EXTRACTION = {"decode": 1.0, "flow": 2.0, "flow_tvl1": 50.0, "backbone/rgb": 4.0, "backbone/flow": 8.0}


@pytest.mark.parametrize(
    ("name", "minute", "alternatives"),
    [
        ("actionformer", {"decode": 1, "flow": 2, "backbone": 12, "detector": 0.5}, {"flow_tvl1": 50}),
        ("conv-privileged", {"decode": 1, "flow": 2, "backbone": 8, "detector": 0.5}, {"flow_tvl1": 50}),
        ("conv-primary", {"decode": 1, "backbone": 4, "detector": 0.5}, {}),
        ("conv-dw-hallucinated-ta", {"decode": 1, "backbone": 4, "detector": 0.5}, {}),
    ],
)
def test_cost_depends_on_the_modalities_read(
    name: str, minute: dict[str, float], alternatives: dict[str, float]
) -> None:
    spec = small(name)[1]
    assert minute_of_video(spec, EXTRACTION, 0.5) == (minute, alternatives)
    assert minute_of_video(spec, {}, 0.5) == ({}, {})


def test_missing_steps_are_named() -> None:
    lacking = {name: s for name, s in EXTRACTION.items() if name not in ("flow", "backbone/flow")}
    with pytest.raises(InputError, match=r"lacks backbone/flow, flow"):
        minute_of_video(small("conv")[1], lacking, 0.5)
    minute_of_video(small("conv-primary")[1], lacking, 0.5)


def test_datasets_of_features_have_no_extraction_cost() -> None:
    def named(name: str) -> DatasetSpec:
        return dataset().model_copy(update={"name": name})

    assert extraction_seconds(named("thumos14")) == {}
    assert extraction_seconds(named("mine")) == {}


def test_minute_work_of_a_dataset_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    entry = replace(
        datasets.get("thumos14"),
        name="own",
        minute_work=lambda: {"backbone/rgb": lambda: calls.append("rgb")},
    )
    monkeypatch.setitem(datasets._entries, "own", entry)
    cost = extraction_seconds(dataset().model_copy(update={"name": "own"}))
    assert list(cost) == ["decode", "flow", "backbone/rgb"]
    assert cost["decode"] == cost["flow"] == 0.0
    assert cost["backbone/rgb"] >= 0.0
    assert len(calls) == RUNS


def test_steps_of_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps_per_minute(dataset(fps=8.0)) == 240
    assert steps_per_minute(dataset(fps=29.97)) == 900  # 899.1: the last step counts

    class Video:
        def __init__(self, fps: float) -> None:
            self.fps = fps

    class File:
        videos = tuple(Video(fps) for fps in (10.0, 20.0, 90.0))

    monkeypatch.setattr(module, "read_annotations", lambda path: File())
    assert steps_per_minute(dataset(fps=None)) == 600


def test_extraction_is_measured_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extraction_device(dataset(), "cuda") == "cuda"
    entry = replace(datasets.get("thumos14"), name="own", minute_work=dict)
    monkeypatch.setitem(datasets._entries, "own", entry)
    own = dataset().model_copy(update={"name": "own"})
    assert extraction_device(own, "cuda") == "cpu"
    assert extraction_device(own, "cpu") == "cpu"
