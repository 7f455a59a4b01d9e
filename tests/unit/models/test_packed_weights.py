"""Convolutions with packed weights agree with the plain reference."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tal_bench.models.layers import Conv, DepthwiseConv, prepare_for_inference
from tal_bench.models.ops.packed_weights import PackedConv, available
from tal_bench.models.ops.reference import plain_conv

needs_bf16 = pytest.mark.skipif(not available(torch.bfloat16), reason="this processor has no bf16 products")


def layer(kernel: int = 1, stride: int = 1, *, bias: bool = True) -> Conv:
    torch.manual_seed(kernel + stride)
    conv = Conv(32, 48, kernel, stride, bias)
    if conv.bias is not None:
        nn.init.normal_(conv.bias)
    return conv


@pytest.mark.skipif(not available(torch.float32), reason="this PyTorch build has no oneDNN operations")
@pytest.mark.parametrize("T", [2, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_full_precision_agrees_with_the_reference(kernel: int, stride: int, T: int) -> None:
    conv = layer(kernel, stride)
    x = torch.randn(2, T, 32)
    with torch.inference_mode():
        packed = PackedConv(conv.weight, conv.bias, stride)
        plain = plain_conv(x, conv.weight, conv.bias, stride)
        torch.testing.assert_close(packed(x), plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed(x, "gelu"), F.gelu(plain), atol=1e-5, rtol=1e-5)


@needs_bf16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("T", [1, 2, 7, 64])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_half_precision_agrees_with_the_reference(kernel: int, stride: int, T: int, bias: bool) -> None:
    if kernel == 3 and stride == 2 and T % 2:
        pytest.skip("strided convolutions take an even length")
    prepared = prepare_for_inference(layer(kernel, stride, bias=bias), torch.bfloat16)
    assert isinstance(prepared, Conv) and prepared.packed is not None
    x = torch.randn(2, T, 32)
    bias_ = None if prepared.bias is None else prepared.bias.float()
    plain = plain_conv(x.bfloat16().float(), prepared.weight.float(), bias_, stride)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        output, activated = prepared(x), prepared.forward_gelu(x)
    assert output.dtype == activated.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), plain, atol=0.02, rtol=0.01)
    torch.testing.assert_close(activated.float(), F.gelu(plain), atol=0.02, rtol=0.01)


@needs_bf16
def test_gradients_are_computed_with_the_plain_weights() -> None:
    prepared = prepare_for_inference(layer(), torch.bfloat16)
    x = torch.randn(2, 8, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        prepared(x).float().sum().backward()
    assert x.grad is not None and bool(x.grad.any())


@needs_bf16
def test_only_matrices_are_packed() -> None:
    network = nn.Sequential(layer(), DepthwiseConv(48), nn.Conv1d(48, 4, 1))
    prepared = prepare_for_inference(network, torch.bfloat16)
    assert [isinstance(getattr(part, "packed", None), PackedConv) for part in prepared] == [
        True,
        False,
        False,
    ]
    assert network[0].packed is None, "the original network is unchanged"
    assert set(prepared.state_dict()) == set(network.state_dict())


@needs_bf16
def test_a_copy_gives_the_same_output() -> None:
    prepared = prepare_for_inference(layer(3), torch.bfloat16)
    x = torch.randn(1, 8, 32)
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(prepared)(x), prepared(x))
        assert torch.equal(prepare_for_inference(prepared, torch.bfloat16)(x), prepared(x))
