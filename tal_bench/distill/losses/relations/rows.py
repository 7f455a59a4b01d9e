"""Rows whose relations are compared: G sets of R rows, [G, R, C], with a mask [G, R] of those that count."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.masking import time_mean, valid_features


def time_rows(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the valid steps of each sample as a set of rows: [B, T, C] and [B, T] for [B, C, T]."""
    return valid_features(x, mask).transpose(1, 2), mask


def sample_rows(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the samples as one set of rows, features flattened: [1, B, C T] and [1, B] for [B, C, T]."""
    return valid_features(x, mask).flatten(1)[None], mask.any(dim=1)[None]


def pooled_rows(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the samples as one set of rows, averaged over time: [1, B, C] and [1, B] for [B, C, T]."""
    return time_mean(x, mask)[None], mask.any(dim=1)[None]


def pairs(valid: Tensor) -> Tensor:
    """Return which pairs of rows count, [G, R, R] for [G, R]."""
    return valid[:, :, None] & valid[:, None, :]


def mean_of_pairs(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean [G] of [G, R, R] over the pairs of valid rows, the diagonal included."""
    count = valid.sum(dim=1).square().clamp(min=1)
    return values.masked_fill(~pairs(valid), 0.0).sum(dim=(1, 2)) / count
