"""What is made for the CPU alone is never used on a GPU: a test each, on fake CUDA tensors."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import torch
from fake_gpu import fake_gpu
from test_contracts import batch, narrow
from torch import Tensor

from tal_bench.config import TrainSpec
from tal_bench.models import layers, targets
from tal_bench.models.layers import Conv, DepthwiseConv
from tal_bench.models.ops import depthwise, kernels, winograd
from tal_bench.models.registry import get_model
from tal_bench.training import device as device_module
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep

WIDE = (winograd.MIN_CHANNELS, 2 * winograd.MIN_STEPS)
"""Channels and steps of a convolution for which Winograd's method is faster on the CPU."""


def forbidden(*args: Any, **named: Any) -> NoReturn:
    raise AssertionError("used on a GPU")


def forward(layer: torch.nn.Module, x: Tensor) -> Tensor:
    result: Tensor = layer(x)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    channels, steps = WIDE
    on_cpu = layers.prepare_for_inference(Conv(channels, channels, kernel=1), dtype)
    assert on_cpu.packed is not None or not layers.available(dtype), "the same layer is packed on the CPU"
    monkeypatch.setattr(layers, "PackedConv", forbidden)
    with fake_gpu(), torch.no_grad():
        layer = Conv(channels, channels, kernel=1).to(device="cuda")
        ready = layers.prepare_for_inference(layer, dtype)
        found = forward(ready, torch.zeros(1, steps, channels, device="cuda", dtype=dtype))
    assert ready.packed is None and found.device.type == "cuda"


def test_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    channels, steps = WIDE
    x = torch.zeros(1, steps, channels)
    layer = Conv(channels, channels)
    assert winograd.is_faster(x, layer.weight)
    for place, name in ((layers, "PreparedWinogradConv"), (winograd.WinogradConv3, "apply")):
        monkeypatch.setattr(place, name, forbidden)
    with pytest.raises(AssertionError, match="used on a GPU"):
        layer(x)
    with fake_gpu():
        gpu_layer = Conv(channels, channels).to(device="cuda")
        assert forward(gpu_layer, torch.zeros(1, steps, channels, device="cuda")).device.type == "cuda"
        with torch.no_grad():
            ready = layers.prepare_for_inference(gpu_layer)
            assert forward(ready, torch.zeros(1, steps, channels, device="cuda")).device.type == "cuda"


def test_custom_kernels_of_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    for kernel in (kernels._NarrowConv3, kernels._DenseConv3):
        monkeypatch.setattr(kernel, "apply", forbidden)
    for width in (2, 64):
        with pytest.raises(AssertionError, match="used on a GPU"):
            Conv(64, width)(torch.zeros(1, 8, 64))
        with fake_gpu():
            layer = Conv(64, width).to(device="cuda")
            assert forward(layer, torch.zeros(1, 8, 64, device="cuda")).shape == (1, 8, width)


def test_compiled_depthwise_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "_call", forbidden)
    with pytest.raises(AssertionError, match="used on a GPU"):
        DepthwiseConv(8)(torch.zeros(1, 8, 8))
    with fake_gpu():
        layer = DepthwiseConv(8).to(device="cuda")
        x = torch.zeros(1, 8, 8, device="cuda", requires_grad=True)
        forward(layer, x).sum().backward()
        assert x.grad is not None


def test_compiled_assignment_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "assign_to_points", forbidden)

    def step(device: Device) -> None:
        spec = narrow("conv")
        made = TrainingStep(
            get_model("conv").build(spec), spec, TrainSpec(), steps_per_epoch=10, device=device
        )
        made(batch())

    with pytest.raises(AssertionError, match="used on a GPU"):
        step(Device("cpu"))
    with fake_gpu():
        step(Device("cuda"))


def test_the_allocator_of_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "keep_freed_memory", forbidden)
    with pytest.raises(AssertionError, match="used on a GPU"):
        Device("cpu")
    Device("cuda").with_precision("bf16")
