"""What the losses share: padding, standard deviations, and the divergence of two distributions.

Notation: B batch size, C channels, T time steps, K classes. Features are [B, C, T], logits [B, T, K], and a
mask [B, T] is true where a step counts. Losses compute in float32 or wider.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """Return a tensor in float32, or as it is if it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def valid_features(x: Tensor, mask: Tensor) -> Tensor:
    """Return features [B, C, T] with zeros, and no gradient, where the mask [B, T] is false."""
    return full(x).masked_fill(~mask[:, None], 0.0)


def valid_rows(x: Tensor, mask: Tensor) -> Tensor:
    """Return rows [B, T, ...] with zeros, and no gradient, where the mask [B, T] is false."""
    return full(x).masked_fill(~mask.reshape(*mask.shape, *(1,) * (x.ndim - 2)), 0.0)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of [B, T] where the mask is true; 0 if it is true nowhere."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def time_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [B, C] of features [B, C, T] over the valid steps of each sample."""
    return valid_features(x, mask).sum(dim=2) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def root(x: Tensor) -> Tensor:
    """Return the square root, whose derivative at 0 is taken as 0 instead of infinite."""
    positive = x > 0
    return torch.where(positive, x, torch.ones_like(x)).sqrt() * positive


def channel_moments(x: Tensor, mask: Tensor, *, correction: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation [C, 1] per channel of [B, C, T] over all valid steps of the batch.

    The sum of squared deviations is divided by the number of steps less the correction.
    """
    x, count = valid_features(x, mask), mask.sum()
    mean = (x.sum(dim=(0, 2)) / count.clamp(min=1))[:, None]
    squares = (x - mean).square().masked_fill(~mask[:, None], 0.0).sum(dim=(0, 2))
    return mean, root(squares / (count - correction).clamp(min=1))[:, None]


def one_hot(classes: Tensor, count: int) -> Tensor:
    """Return [..., count] bool, true at the class index of [...]; nowhere for an index outside the range."""
    # the library's function reads the smallest index back on the host
    return classes[..., None] == torch.arange(count, device=classes.device)


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) over the last dimension, of distributions given by logarithms of probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
