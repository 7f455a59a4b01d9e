"""Exponential moving average of weights; the average is what gets evaluated."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Running average of a module's weights, started as a copy of it.

    Args:
        module: whose weights are followed.
        decay: share of the old average that a step keeps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self._average: list[Tensor] = [p.data for p in self.module.parameters()]
        self._followed: list[Tensor] = [p.data for p in module.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the present weights, all tensors in one call."""
        torch._foreach_lerp_(self._average, self._followed, 1.0 - self.decay)
