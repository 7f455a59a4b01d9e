"""Networks prepared for inference give the same output as before."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from fake_gpu import fake_gpu
from tiny import tiny_spec
from torch import nn
from torch.nn import functional as F

from tal_bench.models.layers import Conv, LayerNorm, prepare_for_inference
from tal_bench.models.ops.packed_weights import available
from tal_bench.models.ops.winograd import MIN_CHANNELS, MIN_STEPS
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.inputs import random_batch
from tal_bench.profiling.macs import count_macs
from tal_bench.profiling.model import count
from tal_bench.training.device import Device


def wide(kernel: int, stride: int = 1) -> Conv:
    torch.manual_seed(kernel)
    conv = Conv(MIN_CHANNELS, 2 * MIN_CHANNELS, kernel, stride)
    assert conv.bias is not None
    nn.init.normal_(conv.bias)
    return conv


@pytest.mark.parametrize("T", [1, 7, 64, MIN_STEPS, MIN_STEPS + 1])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_wide_layers_in_full_precision_give_the_same_output(kernel: int, stride: int, T: int) -> None:
    conv = wide(kernel, stride)
    prepared = prepare_for_inference(conv)
    assert isinstance(prepared, Conv)
    assert (prepared.packed is not None) == (kernel == 1 and available(torch.float32))
    assert (prepared.winograd is not None) == (kernel == 3)
    x = torch.randn(2, T, MIN_CHANNELS)
    with torch.inference_mode():
        torch.testing.assert_close(prepared(x), conv(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(prepared.forward_gelu(x), F.gelu(conv(x)), atol=1e-5, rtol=1e-5)


def test_prepared_weights_count_as_memory() -> None:
    prepared = prepare_for_inference(nn.Sequential(wide(1), wide(3)))
    dense, taps = (part.weight.nbytes for part in prepared)
    assert [part.prepared_bytes for part in prepared] == [
        dense if available(torch.float32) else 0,
        2 * taps // 3,  # two of four factors are taps of the weight
    ]
    assert wide(1).prepared_bytes == 0


def test_the_prepared_winograd_convolution_is_bitwise_that_of_training() -> None:
    conv = wide(3)
    x = torch.randn(2, MIN_STEPS, MIN_CHANNELS)
    with torch.inference_mode():
        assert torch.equal(prepare_for_inference(conv)(x), conv(x))


def test_autocast_and_gradients_use_the_plain_weights() -> None:
    prepared = prepare_for_inference(nn.Sequential(wide(1), wide(3)))
    for part in prepared:
        x = torch.randn(1, MIN_STEPS, MIN_CHANNELS, requires_grad=True)
        part(x).sum().backward()
        assert x.grad is not None and bool(x.grad.any())
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert part(x).dtype == torch.bfloat16


def narrow(kernel: int) -> Conv:
    return Conv(MIN_CHANNELS - 1, MIN_CHANNELS, kernel)


def test_narrow_layers_and_other_precisions_are_not_prepared() -> None:
    for prepared in (
        prepare_for_inference(narrow(1)),
        prepare_for_inference(narrow(3)),
        prepare_for_inference(wide(3, 2)),
        prepare_for_inference(wide(3).double()),
    ):
        assert isinstance(prepared, Conv) and prepared.packed is None and prepared.winograd is None
    assert prepare_for_inference(wide(1).double()).weight.dtype == torch.float64


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["actionformer-primary", "conv-primary"])
def test_operations_of_prepared_layers_are_counted(name: str, precision: Literal["fp32", "bf16"]) -> None:
    model, device = get_model(name), Device("cpu", precision)
    data = tiny_spec({"rgb": ("primary", 1024)}, max_length=2304, size="full")
    architecture = detector_spec(model, data, 20)
    prepared = device.prepare_for_inference(model.build(architecture))
    with device.autocast():
        counted = count_macs(prepared, random_batch(architecture, 576))
    assert counted == pytest.approx(
        count(model, architecture, 576)[1], rel=0 if precision == "fp32" else 0.01
    )


def test_gains_of_layer_norm_are_in_full_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[torch.dtype]] = []
    plain = F.layer_norm

    def layer_norm(x: torch.Tensor, shape: Any, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> Any:
        seen.append({x.dtype, weight.dtype, bias.dtype})
        return plain(x, shape, weight, bias, eps)

    monkeypatch.setattr(F, "layer_norm", layer_norm)
    with fake_gpu():
        norm = LayerNorm(8).to(device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found = norm(torch.zeros(1, 4, 8, device="cuda", dtype=torch.bfloat16))
    assert seen and all(dtypes == {torch.float32} for dtypes in seen)
    assert (found.device.type, found.dtype) == ("cuda", torch.bfloat16)


def test_layer_norm_rounds_its_gains_on_no_device() -> None:
    """The form for GPUs, whose kernels want weights of the dtype of x, equals that of the CPU."""
    norm = LayerNorm(32)
    with torch.no_grad():
        norm.weight.uniform_(0.9, 1.1)
        norm.bias.uniform_(-0.1, 0.1)
    x = torch.randn(2, 5, 32, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = norm(x)
    torch.testing.assert_close(norm.in_full_precision(x), expected, rtol=0, atol=0)
    rounded = F.layer_norm(x, (32,), norm.weight.bfloat16(), norm.bias.bfloat16())
    assert not torch.equal(rounded, expected), "the gains of this test are not those of bf16"
