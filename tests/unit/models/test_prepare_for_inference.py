"""Networks that only answer in full precision: wide layers that are ready give what they gave."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tiny import tiny_spec
from torch import nn
from torch.nn import functional as F

from tal_bench.models.layers import Conv, prepare_for_inference
from tal_bench.models.ops.packed_weights import available
from tal_bench.models.ops.winograd import LONG, WIDE
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.inputs import random_batch
from tal_bench.profiling.macs import count_macs
from tal_bench.profiling.model import count
from tal_bench.training.device import Device


def wide(kernel: int, stride: int = 1) -> Conv:
    torch.manual_seed(kernel)
    conv = Conv(WIDE, 2 * WIDE, kernel, stride)
    assert conv.bias is not None
    nn.init.normal_(conv.bias)
    return conv


@pytest.mark.parametrize("T", [1, 7, 64, LONG, LONG + 1])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_wide_layers_in_full_precision_answer_as_they_did(kernel: int, stride: int, T: int) -> None:
    conv = wide(kernel, stride)
    frozen = prepare_for_inference(conv)
    assert isinstance(frozen, Conv)
    assert (frozen.packed is not None) == (kernel == 1 and available(torch.float32))
    assert (frozen.filters is not None) == (kernel == 3)
    x = torch.randn(2, T, WIDE)
    with torch.inference_mode():
        torch.testing.assert_close(frozen(x), conv(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(frozen.then_gelu(x), F.gelu(conv(x)), atol=1e-5, rtol=1e-5)


def test_what_is_ready_counts_as_memory() -> None:
    frozen = prepare_for_inference(nn.Sequential(wide(1), wide(3)))
    dense, taps = (part.weight.nbytes for part in frozen)
    assert [part.ready_bytes for part in frozen] == [
        dense if available(torch.float32) else 0,
        2 * taps // 3,  # two of four factors are taps of the weight
    ]
    assert wide(1).ready_bytes == 0


def test_filters_that_are_ready_are_those_of_every_pass() -> None:
    conv = wide(3)
    x = torch.randn(2, LONG, WIDE)
    with torch.inference_mode():
        assert torch.equal(prepare_for_inference(conv)(x), conv(x))


def test_autocast_and_gradients_pass_the_plain_weights_of_full_precision() -> None:
    frozen = prepare_for_inference(nn.Sequential(wide(1), wide(3)))
    for part in frozen:
        x = torch.randn(1, LONG, WIDE, requires_grad=True)
        part(x).sum().backward()
        assert x.grad is not None and bool(x.grad.any())
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            assert part(x).dtype == torch.bfloat16


def narrow(kernel: int) -> Conv:
    return Conv(WIDE - 1, WIDE, kernel)


def test_narrow_layers_and_other_precisions_stay_as_they_are() -> None:
    for frozen in (
        prepare_for_inference(narrow(1)),
        prepare_for_inference(narrow(3)),
        prepare_for_inference(wide(3, 2)),
        prepare_for_inference(wide(3).double()),
    ):
        assert isinstance(frozen, Conv) and frozen.packed is None and frozen.filters is None
    assert prepare_for_inference(wide(1).double()).weight.dtype == torch.float64


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["actionformer-primary", "conv-primary"])
def test_operations_of_what_is_ready_are_counted(name: str, precision: Literal["fp32", "bf16"]) -> None:
    model, device = get_model(name), Device("cpu", precision)
    data = tiny_spec({"rgb": ("primary", 1024)}, max_length=2304, size="full")
    architecture = detector_spec(model, data, 20)
    frozen = device.prepare_for_inference(model.build(architecture))
    with device.autocast():
        counted = count_macs(frozen, random_batch(architecture, 576))
    assert counted == pytest.approx(
        count(model, architecture, 576)[1], rel=0 if precision == "fp32" else 0.01
    )
