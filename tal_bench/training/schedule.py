"""Optimizer and learning-rate schedule of ActionFormer."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn

from tal_bench.config import TrainSpec
from tal_bench.training.adamw import AdamW

FLOOR = 1e-8
"""Learning rate at the end of the schedule."""


def build_optimizer(modules: Iterable[nn.Module], spec: TrainSpec) -> AdamW:
    """Return AdamW without weight decay for biases, norms and scales (all one-dimensional parameters).

    Every group of parameters has the entry `lr_scale`, the factor on the learning rate (see
    `TrainSpec.lr_width`).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {(spec.weight_decay, 1.0): [], (0.0, 1.0): []}
    for module in modules:
        for p in module.parameters():
            decay = spec.weight_decay if p.ndim > 1 else 0.0
            groups.setdefault((decay, lr_scale(p, spec.lr_width)), []).append(p)
    return AdamW(
        [{"params": p, "weight_decay": decay, "lr_scale": scale} for (decay, scale), p in groups.items()],
        lr=spec.lr,
    )


def lr_scale(parameter: nn.Parameter, lr_width: int | None) -> float:
    """Return the factor on the learning rate of a parameter [C_out, C_in, …]: at most lr_width / C_in."""
    if lr_width is None or parameter.ndim < 2:
        return 1.0
    return min(1.0, lr_width / parameter.shape[1])


def learning_rate(step: int, *, steps_per_epoch: int, spec: TrainSpec) -> float:
    """Return the rate of a step, counted from 0: linear warm-up from 0, then cosine decay to 1e-8."""
    warmup = spec.warmup_epochs * steps_per_epoch
    if step < warmup:
        return spec.lr * step / max(1, warmup - 1)
    share = (step - warmup) / max(1, spec.epochs * steps_per_epoch)
    return FLOOR + 0.5 * (spec.lr - FLOOR) * (1 + math.cos(math.pi * share))
