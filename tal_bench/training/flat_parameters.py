"""Small parameters as views of one tensor, so that optimizer and clipping are a few operations.

A small network has about a hundred parameters of a few hundred numbers each. To call the optimizer for each
takes longer than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tal_bench.training.adamw import AdamW

SMALL = 1 << 15
"""Largest number of elements of a parameter that is flattened.

The gradient of a flattened parameter is added to a view, which costs memory bandwidth; that of a larger one
is kept as autograd returns it.
"""
ALIGNMENT = 16
"""Parameters begin at multiples of this number of elements, as memory of their own would."""


class FlatOptimizer:
    """Parameters of an optimizer, whose small ones are replaced by one per group.

    The small parameters of the modules become views of that one, as do their gradients: what the optimizer
    changes, changes them. Their memory layout is kept. Parameters of a group must have one dtype and device,
    and must not be moved to others afterwards.

    Args:
        optimizer: Optimizer without state; its groups are changed.

    Attributes:
        parameters: Parameters that the optimizer has then.
    """

    def __init__(self, optimizer: AdamW) -> None:
        self._flat: list[nn.Parameter] = []
        self._large: list[nn.Parameter] = []
        for group in optimizer.param_groups:
            small = [p for p in group["params"] if p.requires_grad and p.numel() <= SMALL]
            large = [p for p in group["params"] if p.numel() > SMALL]
            flat = [_flattened(small)] if small else []
            group["params"] = [*flat, *large]
            self._flat += flat
            self._large += large
        self.parameters = [*self._flat, *self._large]

    def clear_gradients(self) -> None:
        """Set gradients of flat parameters to zero, and forget those of large ones."""
        for p in self._flat:
            assert p.grad is not None
            p.grad.zero_()
        for p in self._large:
            p.grad = None


def _flattened(small: Sequence[nn.Parameter]) -> nn.Parameter:
    """Return one parameter of which the given ones become views."""
    places = list(_places(small))
    flat = nn.Parameter(small[0].new_zeros(places[-1] + _room(small[-1])))
    flat.grad = torch.zeros_like(flat)
    for p, place in zip(small, places, strict=True):
        value = _view(flat.data, p, place)
        value.copy_(p.data)
        p.data, p.grad = value, _view(flat.grad, p, place)
    return flat


def _room(parameter: Tensor) -> int:
    return -(-parameter.numel() // ALIGNMENT) * ALIGNMENT


def _places(parameters: Sequence[Tensor]) -> Iterator[int]:
    place = 0
    for p in parameters:
        yield place
        place += _room(p)


def _view(flat: Tensor, like: Tensor, place: int) -> Tensor:
    return flat.as_strided(like.shape, like.stride(), place)
