"""Multiply-accumulates of a forward pass.

A MAC is one multiplication with its addition, elsewhere counted as two FLOPs; the "FLOPs" of fvcore are MACs.
Matrix products and convolutions are counted, on the shapes that the code computes. Local attention, which is
computed in blocks, therefore includes their margins: 36 keys per query for a window of 19. A convolution of
three taps counts as three products, although its CPU implementation may need only two. Padding counts like
any other step; normalisation, activations, masks and NMS are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tal_bench.models.ops.op_shortcuts import without_shortcuts
from tal_bench.types import Batch


def count_macs(module: nn.Module, batch: Batch) -> int:
    """Count the multiply-accumulates of one forward pass.

    Args:
        module: Module in evaluation mode.
        batch: Batch on the same device.
    """
    with torch.inference_mode(), mac_counter() as counter:
        module(batch)
    return counter.macs


@contextmanager
def mac_counter() -> Iterator[MacCounter]:
    """Count the multiply-accumulates of everything that runs within the context."""
    with without_shortcuts(), MacCounter() as counter:
        yield counter


def _product(_: Tensor, a: Tensor, b: Tensor, **named: Any) -> int:
    """Return the FLOPs of self += a @ b, for a [..., n, k] and b [..., k, m]."""
    return 2 * prod(a.shape) * b.shape[-1]


def _matmul(a: Tensor, b: Tensor, *, out_val: Tensor) -> int:
    """Return the FLOPs of a @ b, for a [..., n, k] or [k]."""
    return 2 * out_val.numel() * a.shape[-1]


FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten.addmm_: _product,
    torch.ops.aten.baddbmm_: _product,
    torch.ops.aten.matmul: _matmul,  # its decomposition imports the symbolic algebra of torch's compiler
}
"""Operation to the function that computes its FLOPs: those of torch, and three that torch lacks."""


class MacCounter(TorchDispatchMode):
    """Counts multiply-accumulates by the formulas of torch.

    The numbers are half of those of torch's `FlopCounterMode`, which imports the compiler of torch at its
    first operation: that takes 30 times as long as to count a small detector.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flops = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates so far."""
        return self._flops // 2

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler in order not to compile this class."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it; one without a formula is split into its parts where it has some."""
        named = kwargs or {}
        formula = FORMULAS.get(getattr(func, "_overloadpacket", None))
        if formula is None:
            if not hasattr(func, "decompose"):  # an operation with functions as arguments
                return func(*args, **named)
            with self:
                found = func.decompose(*args, **named)
            return func(*args, **named) if found is NotImplemented else found
        result = func(*args, **named)
        self._flops += int(formula(*args, **named, out_val=result))
        return result
