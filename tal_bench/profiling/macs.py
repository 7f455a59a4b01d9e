"""Multiply-accumulates of a forward pass.

A MAC is one multiplication with its addition, elsewhere counted as two FLOPs; the "FLOPs" of fvcore are MACs.
Matrix products and convolutions are counted, on the shapes that the code computes. Local attention, which is
computed in blocks, therefore includes their margins: 36 keys per query for a window of 19. A convolution of
three taps counts as three products, although its CPU implementation may need only two. Padding counts like
any other step; normalisation, activations, masks and NMS are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tal_bench.models.ops.op_shortcuts import without_shortcuts
from tal_bench.types import Batch


def count_macs(module: nn.Module, batch: Batch) -> int:
    """Count the multiply-accumulates of one forward pass.

    Args:
        module: Module in evaluation mode; on the meta device nothing is computed.
        batch: Batch on the same device.
    """
    with torch.inference_mode(), flop_counter() as counter:
        module(batch)
    return int(counter.get_total_flops()) // 2


@contextmanager
def flop_counter() -> Iterator[FlopCounterMode]:
    """Count the FLOPs of everything that runs within the context."""
    with without_shortcuts(), FlopCounterMode(display=False, custom_mapping=PRODUCTS) as counter:
        yield counter


def _product(_: Any, a: Any, b: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Return the FLOPs of self += a @ b, from shapes [..., n, k] and [..., k, m]."""
    return int(2 * prod(a) * b[-1])


PRODUCTS: dict[Any, Any] = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}
"""FLOP formulas of operations that `FlopCounterMode` lacks."""
