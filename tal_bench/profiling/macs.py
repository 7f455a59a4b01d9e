"""Multiply-accumulates of a forward pass.

A MAC is one multiplication with its addition, which others count as two FLOPs; "FLOPs" of fvcore are MACs.
Counted are the products of matrices and convolutions, on the shapes that the code really computes. So local
attention, which works block by block, is counted with its margins: 36 keys for each query of a window of 19.
A convolution counts as its definition says, three products for three taps, also where the CPU needs two.
Padding counts like any other step; normalisation, activations, masks and NMS do not count.
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
    """Multiply-accumulates of one forward pass.

    Args:
        module: in evaluation mode; on the meta device nothing is computed.
        batch: on the same device.
    """
    with torch.inference_mode(), counting() as counter:
        module(batch)
    return int(counter.get_total_flops()) // 2


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Context whose counter knows the FLOPs of what runs in it."""
    with without_shortcuts(), FlopCounterMode(display=False, custom_mapping=PRODUCTS) as counter:
        yield counter


def _product(_: Any, a: Any, b: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """FLOPs of self += a @ b, from shapes [..., n, k] and [..., k, m]."""
    return int(2 * prod(a) * b[-1])


PRODUCTS: dict[Any, Any] = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}
"""Products that `FlopCounterMode` does not know."""
