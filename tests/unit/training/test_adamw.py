"""The optimizer is that of torch, bit by bit, and does not import the compiler of torch."""

from __future__ import annotations

import copy
import subprocess
import sys

import torch
from torch import nn

from tal_bench.training.adamw import AdamW


def networks(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 6, 3), nn.LayerNorm(3))
    stored = net[0].weight.data.transpose(1, 2).contiguous()  # tap by tap, as the kernels need it
    net[0].weight.data = stored.transpose(1, 2)
    return [copy.deepcopy(net) for _ in range(count)]


def test_weights_and_moments_are_those_of_torch() -> None:
    ours, theirs, unused = networks(3)
    options = [{"weight_decay": 0.3, "lr": 0.02}, {"weight_decay": 0.0}]

    def groups(net: nn.Module) -> list[dict[str, object]]:
        weights = [[p for p in net.parameters() if (p.ndim > 1) == wide] for wide in (True, False)]
        return [{"params": p, **option} for p, option in zip(weights, options, strict=True)]

    mine, library = AdamW(groups(ours), lr=0.01), torch.optim.AdamW(groups(theirs), lr=0.01, fused=True)
    data = torch.Generator().manual_seed(1)
    for step in range(6):
        x = torch.randn(5, 4, 8, generator=data)
        for net, optimizer in ((ours, mine), (theirs, library)):
            net.zero_grad()
            net(x).square().mean().backward()
            if step == 3:
                net[3].bias.grad = None  # left out of this step
            optimizer.param_groups[1]["lr"] = torch.tensor(0.005) if step > 3 else 0.005
            optimizer.step()
    for p, q, start in zip(ours.parameters(), theirs.parameters(), unused.parameters(), strict=True):
        assert torch.equal(p, q) and not torch.equal(p, start)
        assert mine.state[p].keys() == library.state[q].keys()
        for name, value in mine.state[p].items():
            assert torch.equal(value, library.state[q][name]), name
            assert name == "step" or value.stride() == p.stride()
    steps = [float(mine.state[p]["step"]) for p in ours.parameters()]
    assert sorted(steps) == [5.0, 6.0, 6.0, 6.0, 6.0, 6.0]
    assert any(p.stride() != tuple(sorted(p.stride(), reverse=True)) for p in ours.parameters())


COMMAND = """
import sys, torch
from tal_bench.config import TrainSpec
from tal_bench.training.schedule import build_optimizer
net = torch.nn.Linear(2, 2)
optimizer = build_optimizer([net], TrainSpec())
net(torch.ones(1, 2)).sum().backward()
torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
optimizer.step()
print(float(next(iter(optimizer.state.values()))["step"]), "torch._dynamo" in sys.modules)
"""


def test_a_step_does_not_import_the_compiler() -> None:
    command = [sys.executable, "-c", COMMAND]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.stdout.split() == ["1.0", "False"], result.stderr
