"""Optimizers of flat parameters train as those of the parameters themselves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tal_bench.config import TrainSpec
from tal_bench.models.layers import Conv
from tal_bench.training import flat_parameters
from tal_bench.training.flat_parameters import FlatOptimizer
from tal_bench.training.schedule import build_optimizer


class Net(nn.Module):
    """Layers of several memory layouts, one wide, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = Conv(3, 5), nn.LayerNorm(5), nn.Linear(5, 40)
        self.frozen = nn.Linear(40, 40)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.frozen(self.out(self.norm(self.conv(x))))
        return out


def trained(net: nn.Module, flat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat_parameters, "SMALL", 100)
    optimizer = build_optimizer([net], TrainSpec(lr=0.01, lr_width=4, weight_decay=0.3))
    changed = FlatOptimizer(optimizer) if flat else None
    data = torch.Generator().manual_seed(0)
    for _ in range(5):
        if changed is None:
            net.zero_grad()
        else:
            changed.clear_gradients()
        net(torch.randn(2, 8, 3, generator=data)).square().sum().backward()
        parameters = list(net.parameters()) if changed is None else changed.parameters
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()


def test_weights_and_gradients_are_those_without(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    ours = Net()
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    trained(ours, True, monkeypatch)
    trained(theirs, False, monkeypatch)
    for (name, p), q, first in zip(
        ours.named_parameters(), theirs.parameters(), start.parameters(), strict=True
    ):
        torch.testing.assert_close(p, q, atol=1e-6, rtol=1e-5, msg=name)
        assert p.stride() == q.stride()
        assert torch.equal(p, first) == name.startswith("frozen")
        if p.requires_grad:
            assert p.grad is not None
            torch.testing.assert_close(p.grad, q.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_small_parameters_are_one_per_group_and_aligned() -> None:
    net = Net()
    optimizer = build_optimizer([net], TrainSpec(lr_width=4))
    groups = sum(any(p.requires_grad for p in group["params"]) for group in optimizer.param_groups)
    flat = FlatOptimizer(optimizer)
    assert len(flat.parameters) == groups < len(list(net.parameters()))
    for p in net.parameters():
        assert not p.requires_grad or p.storage_offset() % flat_parameters.ALIGNMENT == 0


def test_a_copy_and_a_state_do_not_share_memory() -> None:
    net = Net()
    FlatOptimizer(build_optimizer([net], TrainSpec()))
    copied = copy.deepcopy(net)
    with torch.no_grad():
        net.norm.weight.add_(1.0)
    assert not torch.equal(copied.norm.weight, net.norm.weight)
    assert torch.equal(copied.norm.bias, net.norm.bias)
