"""DIST: correlation of predictions, in its softmax form.

Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, arXiv 2205.10536.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.masking import mean_over, valid_rows


def dist_inter(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return tau^2 times 1 - the mean over valid positions of the correlation over classes.

    Args:
        student: [B, T, K] logits, K >= 2.
        teacher: [B, T, K] logits, detached.
        mask: [B, T] bool, positions that count.
        temperature: tau of the softmax over classes.
    """
    s, t = (_softmax(x, mask, temperature) for x in (student, teacher.detach()))
    correlation = _correlation(s - s.mean(dim=2, keepdim=True), t - t.mean(dim=2, keepdim=True), 2)
    return temperature**2 * (1 - mean_over(correlation, mask)) * mask.any()


def dist_intra(student: Tensor, teacher: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return tau^2 times 1 - the mean over classes of the correlation over all valid positions of the batch.

    Arguments are those of `dist_inter`.
    """
    count = mask.sum().clamp(min=1)
    s, t = (valid_rows(_softmax(x, mask, temperature), mask) for x in (student, teacher.detach()))
    s, t = (valid_rows(x - x.sum(dim=(0, 1)) / count, mask).flatten(0, 1) for x in (s, t))
    return temperature**2 * (1 - _correlation(s, t, 0).mean()) * mask.any()


def _softmax(logits: Tensor, mask: Tensor, temperature: float) -> Tensor:
    return (valid_rows(logits, mask) / temperature).softmax(dim=2)


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    """Return the Pearson correlation of centred values along a dimension."""
    lengths = torch.linalg.vector_norm(x, dim=dim) * torch.linalg.vector_norm(y, dim=dim)
    correlation: Tensor = (x * y).sum(dim=dim) / (lengths + 1e-8)
    return correlation
