"""DIST: correlation of predictions.

Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, arXiv 2205.10536.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.masking import mean_over, valid_rows


def dist_inter(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - the mean over valid positions of the correlation over classes.

    The published loss is tau^2 times this value for softmax(logits / tau).

    Args:
        student: [B, T, K] probabilities, K >= 2.
        teacher: [B, T, K] probabilities, detached.
        mask: [B, T] bool, positions that count.
    """
    s, t = (x - x.mean(dim=2, keepdim=True) for x in _valid(student, teacher, mask))
    return (1 - mean_over(_correlation(s, t, 2), mask)) * mask.any()


def dist_intra(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - the mean over classes of the correlation over all valid positions of the batch.

    Arguments are those of `dist_inter`; one class is enough.
    """
    count = mask.sum().clamp(min=1)
    s, t = (
        valid_rows(x - x.sum(dim=(0, 1)) / count, mask).flatten(0, 1) for x in _valid(student, teacher, mask)
    )
    return (1 - _correlation(s, t, 0).mean()) * mask.any()


def _valid(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return valid_rows(student, mask), valid_rows(teacher.detach(), mask)


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Return the Pearson correlation of centred values along a dimension."""
    lengths = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim)
    correlation: Tensor = (x * y).sum(dim=dim) / (lengths + 1e-8)
    return correlation
