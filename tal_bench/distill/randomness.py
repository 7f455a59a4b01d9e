"""Random numbers of terms, apart from those of the training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StepRandom(nn.Module):
    """Uniform random numbers that differ in every call and do not change the state of the global generator.

    Order, crops and drop path of a training thus stay the same in rows whose terms draw random numbers. The
    numbers depend on the global seed at construction and on the number of earlier calls, which is part of the
    state, so that a resumed training draws the same ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed = int(torch.randint(2**31, ()))
        self.calls = 0

    def forward(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
        """Return numbers in [0, 1) of the given shape, the same on every device."""
        generator = torch.Generator().manual_seed(self.seed + self.calls)
        self.calls += 1
        return torch.rand(shape, generator=generator).to(device, non_blocking=True)

    def get_extra_state(self) -> Tensor:
        """Return the number of calls."""
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the number of calls."""
        self.calls = int(state)
