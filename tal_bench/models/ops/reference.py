"""Plain references of the fast operations in this package, in library calls only.

Tests compare the fast operations with them. Exporters and compilers, which cannot follow custom kernels, use
`plain_max_pool` and `plain_attend_to_pairs` instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def plain_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Convolve with padding k // 2: [B, T, C] and [D, C, k] -> [B, ceil(T / stride), D].

    Reference of `kernels.dense_conv3`, of `depthwise.depthwise_conv` (weight [C, 1, k]), and of the
    convolutions in `winograd` and `packed_weights`.
    """
    groups = x.shape[2] // weight.shape[1]
    out = F.conv1d(x.transpose(1, 2), weight, bias, stride, weight.shape[2] // 2, groups=groups)
    return out.transpose(1, 2)


def plain_max_pool(x: Tensor) -> Tensor:
    """Reference of `kernels.max_pool`: [B, T, C] with even T -> [B, T / 2, C]."""
    even, odd = x[:, 0::2], x[:, 1::2]
    before = torch.cat([even[:, :1], odd[:, :-1]], dim=1)
    return torch.maximum(torch.maximum(even, odd), before)


def plain_attend_to_pairs(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Reference of `blocked_attention.attend_to_pairs`, which copies keys and values."""
    keys, values = (torch.cat([x, F.pad(x[:, :, 1:], (0, 0, 0, 0, 0, 1))], dim=3) for x in (k, v))
    scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias.to(q.dtype)
    return scores.softmax(dim=-1) @ values
