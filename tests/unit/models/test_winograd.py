"""Winograd's convolution agrees with the direct sum, and its rounding error is small."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_spec
from torch import Tensor

from tal_bench.models.ops import winograd
from tal_bench.models.ops.kernels import dense_conv3
from tal_bench.models.ops.op_shortcuts import without_shortcuts
from tal_bench.models.ops.reference import plain_conv
from tal_bench.models.ops.winograd import PreparedWinogradConv, WinogradConv3
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.profiling.inputs import random_batch
from tal_bench.profiling.macs import MacCounter, mac_counter


def tensors(B: int, T: int, C: int, D: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    torch.manual_seed(T + C)
    shapes = ((B, T, C), (D, C, 3), (D,))
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_it_agrees_with_the_reference(B: int, half: int, C: int, D: int, with_bias: bool) -> None:
    x, weight, bias = tensors(B, 2 * half, C, D)
    wanted = (x, weight, bias) if with_bias else (x, weight)
    ours = WinogradConv3.apply(x, weight, bias if with_bias else None)
    theirs = plain_conv(x, weight, bias if with_bias else None)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(theirs)
    mine = torch.autograd.grad(ours, wanted, upstream)
    torch.testing.assert_close(mine, torch.autograd.grad(theirs, wanted, upstream))


def test_gradients_agree_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(WinogradConv3.apply, tensors(2, 6, 3, 2))


@pytest.mark.parametrize("with_bias", [True, False])
def test_the_prepared_convolution_agrees_with_the_reference(with_bias: bool) -> None:
    x, weight, bias = (tensor.detach() for tensor in tensors(2, 6, 3, 4))
    wanted = bias if with_bias else None
    torch.testing.assert_close(PreparedWinogradConv(weight, wanted)(x), plain_conv(x, weight, wanted))


def test_no_gradient_is_computed_where_none_is_required() -> None:
    x, weight, bias = tensors(2, 6, 3, 2)
    WinogradConv3.apply(x.detach(), weight, bias.detach()).sum().backward()
    expected = torch.autograd.grad(plain_conv(x.detach(), weight, bias).sum(), weight)[0]
    torch.testing.assert_close(weight.grad, expected)
    assert x.grad is None and bias.grad is None


def test_wide_layers_of_long_sequences_use_it_with_a_small_rounding_error() -> None:
    x, weight, bias = tensors(1, winograd.MIN_STEPS, 512, winograd.MIN_CHANNELS, torch.float32)
    with MacCounter() as counter:
        ours = dense_conv3(x, weight, bias)
    assert counter.macs == 2 * winograd.MIN_STEPS * 512 * winograd.MIN_CHANNELS
    exact = plain_conv(x.double(), weight.double(), bias.double())
    theirs = plain_conv(x, weight, bias)
    upstream = torch.randn_like(theirs)
    wanted = (x, weight, bias)
    mine = torch.autograd.grad(ours, wanted, upstream)
    direct = torch.autograd.grad(theirs, wanted, upstream)
    reference = torch.autograd.grad(exact, wanted, upstream.double())
    for fast, slow, true in zip((ours, *mine), (theirs, *direct), (exact, *reference), strict=True):
        assert deviation(fast.detach(), true.detach()) <= max(
            3 * deviation(slow.detach(), true.detach()), 1e-6
        )


@pytest.mark.parametrize("name", ["actionformer-primary", "conv-primary"])
def test_a_published_detector_gives_the_output_of_direct_sums(name: str) -> None:
    torch.manual_seed(0)
    data = tiny_spec({"rgb": ("primary", 1024)}, max_length=1152, size="full")
    architecture = detector_spec(get_model(name), data, 20)
    detector = get_model(name).build(architecture).eval()
    batch = random_batch(architecture, architecture.max_length)
    with torch.inference_mode():
        ours = detector(batch)
        with without_shortcuts():
            direct = detector(batch)
    assert not torch.equal(ours.logits[0], direct.logits[0])
    torch.testing.assert_close(ours.logits, direct.logits, atol=2e-5, rtol=0)
    torch.testing.assert_close(ours.offsets, direct.offsets, atol=2e-5, rtol=1e-5)


def test_operations_are_counted_by_the_definition() -> None:
    x, weight, bias = tensors(
        1, winograd.MIN_STEPS, winograd.MIN_CHANNELS, winograd.MIN_CHANNELS, torch.float32
    )
    with mac_counter() as counter:
        dense_conv3(x, weight, bias)
    # the first and the last step lack a neighbour
    assert counter.macs == (3 * winograd.MIN_STEPS - 2) * winograd.MIN_CHANNELS**2


def deviation(x: Tensor, y: Tensor) -> float:
    """Root mean square of the difference relative to that of y."""
    return float((x - y).double().norm() / y.double().norm())


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, winograd.MIN_STEPS - 2, 256, 256), torch.float32),
        ((1, winograd.MIN_STEPS + 1, 256, 256), torch.float32),
        ((1, winograd.MIN_STEPS, 255, 256), torch.float32),
        ((1, winograd.MIN_STEPS, 256, 255), torch.float32),
        ((1, winograd.MIN_STEPS, 256, 256), torch.float64),
        ((1, winograd.MIN_STEPS, 256, 256), torch.bfloat16),
    ],
)
def test_it_is_not_used_where_it_is_not_faster(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    x, weight, _ = tensors(*shape, dtype)
    assert not winograd.is_faster(x, weight)
