"""A few training steps: optimizer groups, schedule, clipping, weight average."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tal_bench.config import TrainSpec
from tal_bench.converters.original_config import schedule, train_spec
from tal_bench.converters.original_keys import from_original
from tal_bench.data.batches import pack_segments
from tal_bench.training.device import Device
from tal_bench.training.schedule import build_optimizer, learning_rate
from tal_bench.training.step import TrainingStep
from tal_bench.types import Batch

from ..fixtures import Fixture
from . import Compared, Kind, has
from .arrays import Arrays, default_device, equal, relative
from .networks import LOSS, ZERO, Network, network, pad

WEIGHT = 0.01
"""Tolerance of a weight tensor, relative to the distance that it has moved."""
RATE = 1e-9


@dataclass(frozen=True)
class Tolerance:
    """Relative tolerances of losses before and after the first update, and of gradient norms."""

    first: float
    later: float
    norm: float


EXACT = Tolerance(LOSS, 1e-4, 1e-3)
RECOVERED = Tolerance(1e-4, 1e-2, 0.15)
"""AdamW turns a changed sign of a small gradient into a full step, and the loss has kinks within 1e-6 of the
recovered weights, so successive rounds of the recovery alternate between paths whose later losses differ by
1e-3. A learning rate that is wrong by a few per cent is still detected."""
RECOVERY_ROUNDS = 3


def check(fixture: Fixture) -> Iterator[Compared]:
    """Train from the initial weights of the fixture on its batches in their order."""
    arrays, meta = Arrays(fixture), fixture.meta
    states = {name: arrays.tree(name) for name in ("init", "final", "ema")}
    net = network(meta["model_kwargs"], states["init"])
    start, final, average = (from_original(state) for state in states.values())
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
    """Training of a fixture, from any initial weights."""

    net: Network
    spec: TrainSpec
    batches: list[Batch]
    iterations: list[dict[str, Any]]
    step: TrainingStep | None = None

    def run(self, start: dict[str, Tensor], tolerance: Tolerance = EXACT) -> list[Compared]:
        """Train and compare every iteration."""
        self.net.detector.load_state_dict(start)
        self.step = TrainingStep(
            self.net.detector,
            self.net.spec,
            self.spec,
            steps_per_epoch=len(self.batches),
            device=Device(default_device().type),
        )
        compared: list[Compared] = []
        for i, facts in enumerate(self.iterations):
            losses = self.step(self.batches[i % len(self.batches)])
            compared += _iteration(i, self.step, losses, facts, tolerance)
        return compared

    def recover(self, average: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the initial weights whose training ends in the given average.

        `init` and `final` of a fixture may both be views of the weights after the last iteration, and so be
        equal and of no use. The average is a copy that has moved by a thousandth of the distance, so a fixed
        point is found in a few rounds. Losses and gradient norms are not used for this and remain to be
        compared. A wrong decay of the average shows in the first loss.
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
    packed = pack_segments(arrays.several(f"{name}/segments"), arrays.several(f"{name}/labels"))
    return Batch(features, mask, *packed, [])


def _decayed(model: nn.Module, spec: TrainSpec, original: list[str]) -> Compared:
    """Compare the names of the weights with weight decay."""
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
    """Compare each tensor relative to the distance it has moved, except those with gradients of 0."""
    for name, ours in model.state_dict().items():
        if name.endswith(ZERO):
            continue
        distance = float((theirs[name] - start[name]).norm())
        yield Compared(f"{what}/{name}", float((ours - theirs[name]).norm()) / max(distance, 1e-9), WEIGHT)


KIND: Kind = Kind("trajectory", has("opt_cfg", "iters"), check)
