"""Blocked attention agrees with attention over all pairs under a mask."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tal_bench.models.blocks.attention import ConvAttention, full_attention, local_attention
from tal_bench.models.ops.blocked_attention import attend_to_pairs
from tal_bench.models.ops.reference import plain_attend_to_pairs


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, window: int) -> Tensor:
    """Compute all scores and mask those of padded keys and beyond the window; padded queries give 0."""
    T = q.shape[2]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[3]) + (1 - mask)[:, None, None, :] * -1e4
    step = torch.arange(T)
    outside = (step[:, None] - step[None, :]).abs() > window // 2
    weights = scores.masked_fill(outside, float("-inf")).softmax(dim=-1)
    return weights @ v * mask[:, None, :, None]


def case(T: int, real: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, len(real), 2, T, 4, generator=g, dtype=torch.float64)
    return q, k, v, (torch.arange(T) < torch.tensor(real)[:, None]).double()


@pytest.mark.parametrize("window", [3, 5, 9, 19])
@pytest.mark.parametrize("T", [1, 2, 7, 8, 16, 18, 19, 37])
def test_local_attention_agrees_with_the_dense_reference(T: int, window: int) -> None:
    q, k, v, mask = case(T, (T, max(1, T - 3), 1))
    ours = local_attention(q, k, v, mask, window) * mask[:, None, :, None]
    torch.testing.assert_close(ours, dense(q, k, v, mask, window))


@given(st.integers(1, 40), st.integers(1, 12), st.data())
@settings(max_examples=40, deadline=None)
def test_local_and_dense_have_the_same_gradients(T: int, reach: int, data: st.DataObject) -> None:
    real = data.draw(st.integers(1, T))
    q, k, v, mask = case(T, (real,), seed=T)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    window = 2 * reach + 1
    attended = local_attention(q, k, v, mask, window) * mask[:, None, :, None]
    ours = torch.autograd.grad(attended.square().sum(), inputs)
    theirs = torch.autograd.grad(dense(q, k, v, mask, window).square().sum(), inputs)
    torch.testing.assert_close(ours, theirs)


def test_a_window_over_everything_is_full_attention() -> None:
    q, k, v, mask = case(12, (12, 9))
    everything = local_attention(q, k, v, mask, 31) * mask[:, None, :, None]
    full = full_attention(q, k, v, mask) * mask[:, None, :, None]
    torch.testing.assert_close(everything, full)


def test_padded_keys_have_no_influence() -> None:
    q, k, v, mask = case(20, (11,))
    for attend in (full_attention, lambda *x: local_attention(*x, 7)):
        before = attend(q, k, v, mask)[:, :, :11]
        changed = [torch.cat([x[:, :, :11], 50 + x[:, :, 11:]], dim=2) for x in (k, v)]
        torch.testing.assert_close(attend(q, *changed, mask)[:, :, :11], before)


def test_equal_keys_give_the_mean_of_the_values() -> None:
    T, window = 10, 5
    v = torch.arange(float(T)).reshape(1, 1, T, 1)
    same = torch.zeros(1, 1, T, 1)
    out = local_attention(same, same, v, torch.ones(1, T), window).flatten()
    expected = [
        sum(range(max(0, t - 2), min(T, t + 3))) / len(range(max(0, t - 2), min(T, t + 3))) for t in range(T)
    ]
    assert out.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_module_shapes_and_padding(window: int, stride: int) -> None:
    torch.manual_seed(0)
    module = ConvAttention(8, 2, window, stride)
    x = torch.randn(2, 12, 8)
    mask = (torch.arange(12) < torch.tensor([[12], [7]])).float()[:, ::stride, None]
    out = module(x, mask)
    assert out.shape == (2, 12 // stride, 8)
    assert bool(out.isfinite().all())


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(max_examples=30, deadline=None)
def test_attend_to_pairs_agrees_with_the_reference(B: int, heads: int, n: int, d: int, single: bool) -> None:
    """Includes all gradients; the last block of a head is undefined."""
    dtype = torch.float32 if single else torch.float64
    g = torch.Generator().manual_seed(B + n)
    q, k, v = (torch.randn(B, heads, n, 4, d, generator=g, dtype=dtype).requires_grad_() for _ in range(3))
    bias = torch.randn(B, heads, n, 4, 8, generator=g, dtype=dtype).requires_grad_()
    inputs = (q, k, v, bias)
    ours, theirs = attend_to_pairs(*inputs)[:, :, :-1], plain_attend_to_pairs(*inputs)[:, :, :-1]
    torch.testing.assert_close(ours, theirs)
    if n > 1:
        mine = torch.autograd.grad(ours.square().sum(), inputs)
        torch.testing.assert_close(mine, torch.autograd.grad(theirs.square().sum(), inputs))


def test_module_scales_by_the_width_of_a_head() -> None:
    """With one key, attention returns its value whatever the scores; three keys are computed head by head."""
    torch.manual_seed(0)
    module = ConvAttention(8, 2, 5)
    x = torch.randn(1, 1, 8)
    v = module.projections[2](module.norms[2](module.depthwise[2](x)))
    torch.testing.assert_close(module(x, torch.ones(1, 1, 1)), module.out(v))
    x = torch.randn(1, 3, 8)
    q, k, v = (p(n(d(x))) for p, n, d in zip(module.projections, module.norms, module.depthwise, strict=True))
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = q[0, :, part] @ k[0, :, part].T / math.sqrt(4)
        heads.append(scores.softmax(dim=1) @ v[0, :, part])
    torch.testing.assert_close(module(x, torch.ones(1, 3, 1))[0], module.out(torch.cat(heads, dim=1)))


def test_bfloat16_autocast_is_close() -> None:
    torch.manual_seed(0)
    module = ConvAttention(16, 2, 5)
    x, mask = torch.randn(2, 16, 16), torch.ones(2, 16, 1)
    mask[1, 9:] = 0
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x, mask)
    torch.testing.assert_close(out.float() * mask, module(x, mask) * mask, atol=0.05, rtol=0.1)
    out.float().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())
