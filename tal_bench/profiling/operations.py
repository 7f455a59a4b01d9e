"""Multiply-accumulates of a forward pass.

A MAC is one multiplication with its addition, which others count as two FLOPs; "FLOPs" of fvcore are MACs.
Counted are the products of matrices and convolutions, on the shapes that the code really computes. So local
attention, which works block by block, is counted with its margins: 36 keys for each query of a window of 19.
Padding counts like any other step; normalisation, activations, masks and NMS do not count.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tal_bench.types import Batch


def count_macs(module: nn.Module, batch: Batch) -> int:
    """Multiply-accumulates of one forward pass.

    Args:
        module: in evaluation mode; on the meta device nothing is computed.
        batch: on the same device.
    """
    counter = FlopCounterMode(display=False, custom_mapping=UNKNOWN)
    with torch.inference_mode(), counter:
        module(batch)
    return int(counter.get_total_flops()) // 2


def _product(_: Any, a: Any, b: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """FLOPs of self += a @ b, from shapes [..., n, k] and [..., k, m]."""
    return int(2 * prod(a) * b[-1])


def _linear(x: Any, weight: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """FLOPs of x @ weight.T, from shapes [..., k] and [m, k]."""
    return int(2 * prod(x) * weight[0])


UNKNOWN: dict[Any, Any] = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}
"""Products that `FlopCounterMode` does not know: in place, and in one pass with what follows them."""
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    UNKNOWN[torch.ops.mkldnn._linear_pointwise] = _linear
