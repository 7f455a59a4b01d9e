"""Learning rate and parameter groups."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tal_bench.config import TrainSpec
from tal_bench.models.blocks.attention import ConvAttention
from tal_bench.training.schedule import FLOOR, build_optimizer, learning_rate, lr_scale

SPEC = TrainSpec(epochs=6, warmup_epochs=2, lr=1e-3)
PER_EPOCH = 10


def rate(step: int, spec: TrainSpec = SPEC) -> float:
    return learning_rate(step, steps_per_epoch=PER_EPOCH, spec=spec)


def test_rises_from_zero_to_the_peak_and_falls_to_the_floor() -> None:
    assert rate(0) == 0
    assert rate(1) == pytest.approx(1e-3 / 19)
    assert rate(19) == pytest.approx(1e-3)
    assert rate(20) == pytest.approx(1e-3)
    assert rate(50) == pytest.approx(FLOOR + 0.5 * (1e-3 - FLOOR))
    assert rate(80) == pytest.approx(1e-8)
    assert FLOOR == 1e-8


def test_is_a_cosine_after_the_warm_up() -> None:
    for step in range(20, 80):
        share = (step - 20) / 60
        assert rate(step) == pytest.approx(FLOOR + (1e-3 - FLOOR) * math.cos(math.pi * share / 2) ** 2)


@given(st.integers(0, 5), st.integers(1, 20), st.integers(1, 7))
def test_stays_in_its_range(warmup: int, epochs: int, per_epoch: int) -> None:
    spec = TrainSpec(epochs=epochs, warmup_epochs=warmup, lr=1e-2)
    values = [
        learning_rate(i, steps_per_epoch=per_epoch, spec=spec) for i in range(spec.total_epochs * per_epoch)
    ]
    assert all(0 <= v <= 1e-2 * (1 + 1e-9) for v in values)
    up, down = values[: warmup * per_epoch], values[warmup * per_epoch :]
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    assert down[0] == pytest.approx(1e-2)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert rate(0, TrainSpec(warmup_epochs=0, lr=1e-3)) == pytest.approx(1e-3)


def test_weights_decay_and_biases_norms_and_scales_do_not() -> None:
    module = nn.ModuleList([ConvAttention(8, 2, 5, relative=True), nn.Linear(8, 8), nn.LayerNorm(8)])
    decayed, rest = build_optimizer([module], TrainSpec(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    groups = {id(p): p.ndim for p in module.parameters()}
    assert all(groups[id(p)] > 1 for p in decayed["params"])
    assert all(groups[id(p)] == 1 for p in rest["params"])
    assert len(decayed["params"]) + len(rest["params"]) == len(groups)


def test_wide_layers_have_a_lower_rate() -> None:
    wide, narrow, bias = nn.Conv1d(1024, 4, 3), nn.Linear(96, 4), nn.Parameter(nn.Linear(1, 1024).bias.data)
    assert lr_scale(wide.weight, 256) == 0.25
    assert lr_scale(narrow.weight, 256) == 1.0
    assert lr_scale(bias, 256) == 1.0
    assert lr_scale(wide.weight, None) == 1.0
    optimizer = build_optimizer([wide, narrow], SPEC.model_copy(update={"lr_width": 256}))
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    assert scales == {id(wide.weight): 0.25, id(wide.bias): 1.0, id(narrow.weight): 1.0, id(narrow.bias): 1.0}
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(wide.weight)] == SPEC.weight_decay and decays[id(wide.bias)] == 0.0
