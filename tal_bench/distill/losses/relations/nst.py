"""NST: neuron selectivity transfer, with the polynomial kernel of degree 2.

Huang, Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017, arXiv 1707.01219.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.distill.losses.masking import valid_features


def nst(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the maximum mean discrepancy of the channels, each scaled to unit length over time.

    It is k(t, t) + k(s, s) - 2 k(s, t), where k is the mean over samples and pairs of channels of their
    squared product.

    Args:
        student: [B, C_s, T].
        teacher: [B, C_t, T], detached.
        mask: [B, T] bool.
    """
    s, t = (F.normalize(valid_features(x, mask), dim=2) for x in (student, teacher.detach()))
    return (_kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)).to(s.dtype)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    # the loss is a small difference of kernels, so float32 sums would leave few correct digits
    return (x @ y.transpose(1, 2)).square().mean(dtype=torch.float64)
