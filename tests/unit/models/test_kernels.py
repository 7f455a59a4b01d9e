"""Custom convolutions and pooling agree with their plain references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tal_bench.models.layers import Conv, DepthwiseConv, SeparableConv
from tal_bench.models.ops import depthwise, kernels
from tal_bench.models.ops.depthwise import depthwise_conv
from tal_bench.models.ops.kernels import dense_conv3, max_pool
from tal_bench.models.ops.op_shortcuts import without_shortcuts
from tal_bench.models.ops.reference import plain_conv, plain_max_pool


def tensors(
    B: int, T: int, C: int, D: int, kernel: int = 3, *, depthwise: bool = False
) -> tuple[Tensor, Tensor]:
    torch.manual_seed(T + C)
    shape = (C, 1, kernel) if depthwise else (D, C, kernel)
    x = torch.randn(B, T, C, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(shape, dtype=torch.float64, requires_grad=True)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_dense_conv3_agrees_with_the_reference(B: int, half: int, C: int, D: int, stride: int) -> None:
    x, weight = tensors(B, 2 * half, C, D)
    ours, theirs = dense_conv3(x, weight, stride=stride), plain_conv(x, weight, stride=stride)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    mine = torch.autograd.grad(ours, (x, weight), upstream)
    expected = torch.autograd.grad(theirs, (x, weight), upstream)
    torch.testing.assert_close(mine, expected)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 2]))
@settings(max_examples=30, deadline=None)
def test_depthwise_conv_agrees_with_the_reference(B: int, half: int, C: int, stride: int) -> None:
    x, weight = tensors(B, 2 * half, C, C, depthwise=True)
    ours, theirs = depthwise_conv(x, weight, stride=stride), plain_conv(x, weight, stride=stride)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    mine = torch.autograd.grad(ours, (x, weight), upstream)
    expected = torch.autograd.grad(theirs, (x, weight), upstream)
    torch.testing.assert_close(mine, expected)


@given(
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 9),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 3, 5]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_depthwise_conv_in_full_precision(
    B: int, T: int, C: int, stride: int, kernel: int, biased: bool
) -> None:
    x, weight = (t.detach().float().requires_grad_() for t in tensors(B, T, C, C, kernel, depthwise=True))
    bias = torch.randn(C, requires_grad=True) if biased else None
    leaves = [x, weight, *([bias] if bias is not None else [])]
    ours, theirs = depthwise_conv(x, weight, bias, stride), plain_conv(x, weight, bias, stride)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    mine, expected = (torch.autograd.grad(y, leaves, upstream) for y in (ours, theirs))
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_depthwise_conv_is_compiled_only_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = (t.detach().float() for t in tensors(1, 6, 3, 3, depthwise=True))
    calls: list[str] = []
    call = depthwise._call

    def counted(loop: Callable[..., None], *arguments: Any) -> None:
        calls.append(loop.__name__)
        call(loop, *arguments)

    monkeypatch.setattr(depthwise, "_call", counted)
    depthwise_conv(x, weight)
    assert calls == ["_forward"]
    with without_shortcuts():  # for operation counters
        depthwise_conv(x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        depthwise_conv(x, weight)
    depthwise_conv(x.to("meta"), weight.to("meta"))
    depthwise_conv(torch.zeros(1, depthwise.MAX_ELEMENTS // 3 + 1, 3), weight)
    assert calls == ["_forward"]


def test_depthwise_conv_keeps_nan_and_infinity() -> None:
    x, weight = torch.tensor([[[float("nan")], [1.0], [2.0], [float("inf")]]]), torch.ones(1, 1, 3)
    found = depthwise_conv(x, weight)[0, :, 0]
    assert found[:2].isnan().all()
    assert found[2:].isinf().all()


@pytest.mark.parametrize("T", [1, 3, 7])
def test_odd_lengths_at_stride_1(T: int) -> None:
    x, weight = tensors(2, T, 3, 4)
    torch.testing.assert_close(dense_conv3(x, weight), plain_conv(x, weight))
    assert torch.autograd.gradcheck(dense_conv3, (x, weight))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("T", [2, 6])
def test_gradients_agree_with_finite_differences(T: int, stride: int) -> None:
    x, weight = tensors(2, T, 3, 2)
    assert torch.autograd.gradcheck(lambda a, b: dense_conv3(a, b, stride=stride), (x, weight))
    x, weight = tensors(2, T, 3, 3, depthwise=True)
    assert torch.autograd.gradcheck(lambda a, b: depthwise_conv(a, b, stride=stride), (x, weight))


@pytest.mark.parametrize("stride", [1, 2])
def test_no_gradient_is_computed_where_none_is_required(stride: int) -> None:
    x, weight = tensors(2, 6, 3, 2)
    dense_conv3(x.detach(), weight, stride=stride).sum().backward()
    expected = torch.autograd.grad(plain_conv(x.detach(), weight, stride=stride).sum(), weight)[0]
    torch.testing.assert_close(weight.grad, expected)
    frozen = weight.detach()
    (grad,) = torch.autograd.grad(dense_conv3(x, frozen, stride=stride).sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(plain_conv(x, frozen, stride=stride).sum(), x)[0])


@pytest.mark.parametrize("stride", [1, 2])
def test_inputs_that_are_not_contiguous(stride: int) -> None:
    x, weight = tensors(2, 8, 4, 3)
    view = x.detach().transpose(1, 2).contiguous().transpose(1, 2)
    assert not view.is_contiguous()
    torch.testing.assert_close(dense_conv3(view, weight, stride=stride), plain_conv(x, weight, stride=stride))
    expanded = dense_conv3(x, weight, stride=stride)
    expanded.mean(dim=1).sum().backward()  # its gradient is an expanded tensor
    expected = torch.autograd.grad(plain_conv(x, weight, stride=stride).mean(dim=1).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layer", [Conv, DepthwiseConv, SeparableConv])
def test_autocast_computes_in_bfloat16_with_float32_gradients(layer: type, stride: int) -> None:
    torch.manual_seed(0)
    net = layer(8, 3, stride) if layer is DepthwiseConv else layer(8, 8, 3, stride)
    x = torch.randn(2, 16, 8, requires_grad=True)
    exact = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    assert not torch.equal(out.float(), exact)
    torch.testing.assert_close(out.float(), exact, atol=0.06, rtol=0.05)
    out.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    grads = [p.grad for p in net.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and bool(g.any()) for g in grads)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_layers_support_any_odd_kernel(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, 4)
    conv, depthwise = Conv(4, 6, kernel, stride), DepthwiseConv(4, kernel, stride)
    for layer, groups in ((conv, 1), (depthwise, 4)):
        assert layer.bias is not None
        layer.bias.data += 0.5
        expected = F.conv1d(x.transpose(1, 2), layer.weight, layer.bias, stride, kernel // 2, groups=groups)
        torch.testing.assert_close(layer(x), expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("T", [1, 2, 7])
def test_narrow_and_wide_outputs_agree(T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = tensors(2, T, 3, 4)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    narrow = dense_conv3(x, weight, bias)
    monkeypatch.setattr(kernels, "MAX_NARROW_CHANNELS", 0)
    wide = dense_conv3(x, weight, bias)
    torch.testing.assert_close(narrow, wide)
    upstream = torch.randn_like(wide)
    mine, theirs = (torch.autograd.grad(y, (x, weight, bias), upstream) for y in (narrow, wide))
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("width", [8, 48])
def test_gradients_in_half_precision_are_close(width: int, stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 40, 16, requires_grad=True)
    weight = (torch.randn(width, 16, 3) / 7).requires_grad_()
    bias, upstream = torch.randn(width, requires_grad=True), torch.randn(2, 40 // stride, width)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(dense_conv3(x, weight, bias, stride).float(), (x, weight, bias), upstream)

    exact = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        halves = gradients()
    for half, full in zip(halves, exact, strict=True):
        assert (half - full).abs().max() <= 0.02 * full.abs().max()


@pytest.mark.parametrize("T", [2, 8, 30])
def test_gradient_of_max_pool_flows_to_the_first_of_equal_values(T: int) -> None:
    torch.manual_seed(0)
    x = torch.randint(-3, 3, (2, T, 4)).double().requires_grad_()  # with many ties
    upstream = torch.randn(2, T // 2, 4, dtype=torch.float64)
    (ours,) = torch.autograd.grad(max_pool(x), x, upstream)
    library = F.max_pool1d(x.transpose(1, 2), 3, 2, 1).transpose(1, 2)
    (theirs,) = torch.autograd.grad(library, x, upstream)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("T", [2, 8])
def test_max_pool_agrees_with_the_reference_and_the_library(T: int) -> None:
    x = torch.randn(2, T, 3) - 5.0  # zero padding would be the maximum
    torch.testing.assert_close(max_pool(x), plain_max_pool(x))
    torch.testing.assert_close(max_pool(x), F.max_pool1d(x.transpose(1, 2), 3, 2, 1).transpose(1, 2))
