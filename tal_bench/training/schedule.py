"""Optimizer and learning-rate schedule of ActionFormer."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from tal_bench.config import TrainSpec

FLOOR = 1e-8
"""Learning rate at the end of the schedule."""


def build_optimizer(modules: Iterable[nn.Module], spec: TrainSpec) -> torch.optim.AdamW:
    """Return AdamW without weight decay for biases, norms and scales (all one-dimensional parameters)."""
    parameters = [p for module in modules for p in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.lr, fused=True)


def learning_rate(step: int, *, steps_per_epoch: int, spec: TrainSpec) -> float:
    """Return the rate of a step, counted from 0: linear warm-up from 0, then cosine decay to 1e-8."""
    warmup = spec.warmup_epochs * steps_per_epoch
    if step < warmup:
        return spec.lr * step / max(1, warmup - 1)
    share = (step - warmup) / max(1, spec.epochs * steps_per_epoch)
    return FLOOR + 0.5 * (spec.lr - FLOOR) * (1 + math.cos(math.pi * share))
