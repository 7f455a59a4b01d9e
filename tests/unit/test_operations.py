"""Operations that are counted although the library does not know them."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tal_bench.models.kernels import linear_gelu
from tal_bench.profiling.operations import UNKNOWN


def test_a_layer_in_one_pass_with_its_activation_is_counted() -> None:
    x, weight, bias = torch.randn(2, 8, 4), torch.randn(16, 4), torch.randn(16)
    counter = FlopCounterMode(display=False, custom_mapping=UNKNOWN)
    with counter, torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        linear_gelu(x, weight, bias)
    assert counter.get_total_flops() == 2 * 2 * 8 * 4 * 16
