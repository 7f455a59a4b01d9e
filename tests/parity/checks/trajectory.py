"""A few steps of training: optimiser groups, schedule, clipping, weight average."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tal_bench.config import TrainSpec
from tal_bench.converters.original_config import schedule, train_spec
from tal_bench.converters.original_keys import from_original
from tal_bench.training.device import Device
from tal_bench.training.schedule import build_optimizer, learning_rate
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch

from ..fixtures import Fixture
from . import Compared, Kind, has
from .arrays import Arrays, equal, relative
from .networks import LOSS, ZERO, Network, network, pad

WEIGHT = 0.01
"""Share of the distance that a weight tensor has moved."""
RATE = 1e-9


@dataclass(frozen=True)
class Tolerance:
    """Relative, of a loss before the first update, of one after it, and of a gradient norm."""

    first: float
    later: float
    norm: float


EXACT = Tolerance(LOSS, 1e-4, 1e-3)
RECOVERED = Tolerance(1e-4, 1e-2, 0.15)
"""Kinks lie within 1e-6 of the recovered weights, and AdamW turns a changed sign of a small gradient into a
whole step: successive rounds of the recovery alternate between paths whose later losses differ by 1e-3. A
learning rate that is off by a few per cent still shows."""
RECOVERY_ROUNDS = 3


def check(fixture: Fixture) -> Iterator[Compared]:
    """Train from the fixture's initial weights on its batches in their order."""
    arrays, meta = Arrays(fixture), fixture.meta
    given = {name: arrays.tree(name) for name in ("init", "final", "ema")}
    net = network(meta["model_kwargs"], given["init"])
    start, final, average = (from_original(state) for state in given.values())
    settings = train_spec(meta["model_kwargs"]["train_cfg"])
    clip = meta["clip_grad_l2norm"] if meta["clip_grad_l2norm"] > 0 else None
    spec = schedule(settings, meta["opt_cfg"], meta["ema_decay"]).model_copy(update={"clip": clip})
    yield _decayed(net.detector, spec, meta["decay_params"])
    yield from _rates(spec, meta)
    batches = [_batch(net, arrays, i) for i in range(meta["iters_per_epoch"])]
    training = Training(net, spec, batches, meta["iters"])
    if all(torch.equal(start[name], final[name]) for name in final):
        yield from training.run(training.recover(average), RECOVERED)
    else:
        yield from training.run(start, EXACT)
        assert training.step is not None
        yield from _weights("final", net.detector, final, start)
        yield from _weights("ema", training.step.average.module, average, start)
    arrays.finish()


@dataclass
class Training:
    """The fixture's training, from any initial weights."""

    net: Network
    spec: TrainSpec
    batches: list[Batch]
    iterations: list[dict[str, Any]]
    step: TrainingStep | None = None

    def run(self, start: dict[str, Tensor], tolerance: Tolerance = EXACT) -> list[Compared]:
        """Compare every iteration."""
        self.net.detector.load_state_dict(start)
        self.step = TrainingStep(
            self.net.detector,
            self.net.spec,
            self.spec,
            steps_per_epoch=len(self.batches),
            device=Device("cpu"),
        )
        compared: list[Compared] = []
        for i, facts in enumerate(self.iterations):
            losses = self.step(self.batches[i % len(self.batches)])
            compared += _iteration(i, self.step, losses, facts, tolerance)
        return compared

    def recover(self, average: dict[str, Tensor]) -> dict[str, Tensor]:
        """The initial weights whose training ends in that average.

        A fixture's `init` and `final` may both be views of the weights, and so equal, and of a later time
        than the last iteration: then neither says anything. The average is a copy that has moved by a
        thousandth of the way, so this fixed point is found in a few rounds; losses and gradient norms do not
        enter it and remain to be compared. A wrong decay of the average shows in the first loss.
        """
        start = average
        for _ in range(RECOVERY_ROUNDS):
            self.run(start)
            assert self.step is not None
            reached = self.step.average.module.state_dict()
            start = {name: x + (average[name] - reached[name]) for name, x in start.items()}
        return start


def _rates(spec: TrainSpec, meta: dict[str, Any]) -> Iterator[Compared]:
    for i, theirs in enumerate(meta["lr_full_schedule"]):
        ours = learning_rate(i, steps_per_epoch=meta["iters_per_epoch"], spec=spec)
        yield Compared(f"learning rate {i}", abs(ours - theirs), RATE)


def _batch(net: Network, arrays: Arrays, index: int) -> Batch:
    name = f"batch/{index}"
    x, mask = pad(arrays.several(f"{name}/feats"), net.spec.max_length)
    parts = x.split(net.spec.input_widths, dim=1)
    features = dict(zip((*net.spec.primary, *net.spec.privileged), parts, strict=True))
    return Batch(features, mask, arrays.several(f"{name}/segments"), arrays.several(f"{name}/labels"), [])


def _decayed(model: nn.Module, spec: TrainSpec, original: list[str]) -> Compared:
    """The names of the weights that decay, and by how much."""
    optimizer = build_optimizer([model], spec)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [spec.weight_decay, 0.0]
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    ours = {name for name, p in model.named_parameters() if id(p) in decayed}
    theirs = set(from_original({name: torch.empty(1) for name in original}))
    return equal("weights that decay", sorted(ours ^ theirs), [])


def _iteration(
    i: int, step: TrainingStep, losses: dict[str, Tensor], facts: dict[str, Any], tolerance: Tolerance
) -> Iterator[Compared]:
    theirs = facts["losses"]
    # the first iteration's learning rate is 0
    allowed = tolerance.first if i < 2 else tolerance.later
    names = (("classification", "cls_loss"), ("regression", "reg_loss"), ("total", "final_loss"))
    for ours, original in names:
        yield relative(f"step {i}: {original}", losses[ours], theirs[original], allowed)
    rate = step.optimizer.param_groups[0]["lr"]
    yield Compared(f"step {i}: learning rate", abs(rate - facts["lr"]), RATE)
    yield relative(f"step {i}: normaliser", step.normalizer, facts["loss_normalizer"], LOSS)
    norms = [p.grad.norm() for p in step.student.parameters() if p.grad is not None]
    clipped = torch.stack(norms).norm()
    yield relative(f"step {i}: gradient norm", clipped, facts["grad_norm_after_clip"], tolerance.norm)


def _weights(
    what: str, model: nn.Module, theirs: dict[str, Tensor], start: dict[str, Tensor]
) -> Iterator[Compared]:
    """Each tensor, relative to the length of the way it has come; gradients of 0 lead nowhere known."""
    for name, ours in model.state_dict().items():
        if name.endswith(ZERO):
            continue
        way = float((theirs[name] - start[name]).norm())
        yield Compared(f"{what}/{name}", float((ours - theirs[name]).norm()) / max(way, 1e-9), WEIGHT)


KIND: Kind = Kind("trajectory", has("opt_cfg", "iters"), check)
