"""Networks that only answer: packed weights give what the plain ones give."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tal_bench.models.layers import Conv, DepthwiseConv, prepare_for_inference
from tal_bench.models.ops.packed_weights import Packed, available

pytestmark = pytest.mark.skipif(
    not available(torch.bfloat16), reason="this processor has no products in bf16"
)


def layer(kernel: int = 1, stride: int = 1, *, bias: bool = True) -> Conv:
    torch.manual_seed(kernel + stride)
    conv = Conv(32, 48, kernel, stride, bias)
    if conv.bias is not None:
        nn.init.normal_(conv.bias)
    return conv


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("T", [1, 2, 7, 64])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_they_give_what_plain_weights_give(kernel: int, stride: int, T: int, bias: bool) -> None:
    if kernel == 3 and stride == 2 and T % 2:
        pytest.skip("strided convolutions take an even length")
    frozen = prepare_for_inference(layer(kernel, stride, bias=bias), torch.bfloat16)
    assert isinstance(frozen, Conv) and frozen.packed is not None
    x = torch.randn(2, T, 32)
    plain = F.conv1d(
        x.bfloat16().float().transpose(1, 2),
        frozen.weight.float(),
        None if frozen.bias is None else frozen.bias.float(),
        stride,
        kernel // 2,
    ).transpose(1, 2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found, activated = frozen(x), frozen.then_gelu(x)
    assert found.dtype == activated.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plain, atol=0.02, rtol=0.01)
    torch.testing.assert_close(activated.float(), F.gelu(plain), atol=0.02, rtol=0.01)


def test_gradients_pass_the_plain_weights() -> None:
    frozen = prepare_for_inference(layer(), torch.bfloat16)
    x = torch.randn(2, 8, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        frozen(x).float().sum().backward()
    assert x.grad is not None and bool(x.grad.any())


def test_only_matrices_are_packed() -> None:
    network = nn.Sequential(layer(), DepthwiseConv(48), nn.Conv1d(48, 4, 1))
    frozen = prepare_for_inference(network, torch.bfloat16)
    assert [isinstance(getattr(part, "packed", None), Packed) for part in frozen] == [True, False, False]
    assert network[0].packed is None, "the network itself goes on learning"
    assert set(frozen.state_dict()) == set(network.state_dict())


def test_a_copy_answers_alike() -> None:
    frozen = prepare_for_inference(layer(3), torch.bfloat16)
    x = torch.randn(1, 8, 32)
    with torch.inference_mode():
        assert torch.equal(copy.deepcopy(frozen)(x), frozen(x))
        assert torch.equal(prepare_for_inference(frozen, torch.bfloat16)(x), frozen(x))
