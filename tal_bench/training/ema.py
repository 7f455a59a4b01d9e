"""Exponential moving average of weights, which is used for evaluation."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of the weights of a module, initialised with a copy of them.

    Args:
        module: Module to average.
        decay: Weight of the old average in an update.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self._average: list[Tensor] = [p.data for p in self.module.parameters()]
        self._current: list[Tensor] = [p.data for p in module.parameters()]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights, all tensors in one call."""
        torch._foreach_lerp_(self._average, self._current, 1.0 - self.decay)
