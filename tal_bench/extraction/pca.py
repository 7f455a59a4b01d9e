"""PCA with partial whitening, accumulated video by video, with a deterministic sign."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tal_bench.errors import InputError


@dataclass(frozen=True)
class Pca:
    """Projection z = (x − mean) · matrix.

    Attributes:
        mean: Mean [D].
        matrix: Projection matrix [D, C].
        explained: Share of the variance that the components explain, 0 … 1.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]
    explained: float

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project [T, D] to [T, C]."""
        centred = torch.from_numpy(x).double() - torch.from_numpy(self.mean)
        projected: NDArray[np.float32] = (centred @ torch.from_numpy(self.matrix)).float().numpy()
        return projected


def fit_pca(
    parts: Iterable[NDArray[np.float32]], channels: int, power: float, blocks: tuple[int, ...] = ()
) -> Pca:
    """Fit a projection to the rows of all parts together.

    Blocks of inputs are first scaled to the same total variance, so that none dominates. Then component k is
    divided by σ_k^power, and all components by a common factor, so that the mean variance is 1. The sign of
    each component is chosen so that its largest weight is positive, which makes the fit unique.

    Args:
        parts: Vectors [T_v, D] of every video, always in the same order (it affects the last bit of sums).
        channels: Number of components C.
        power: Whitening power, 0 … 1.
        blocks: Widths of the blocks, which sum to D; empty means one block.

    Raises:
        InputError: More components are requested than there are inputs, or there are no vectors.
    """
    count, total, square = 0, None, None
    for part in parts:
        x = torch.from_numpy(part).double()
        count += len(x)
        total = x.sum(0) if total is None else total + x.sum(0)
        square = x.T @ x if square is None else square + x.T @ x
    if total is None or square is None or channels > len(total):
        raise InputError(
            f"cannot keep {channels} components of {0 if total is None else len(total)} inputs",
            where="fit_pca",
            hint="request fewer channels",
        )
    mean = total / count
    covariance = square / count - torch.outer(mean, mean)
    totals = [block.sum() for block in covariance.diagonal().split(list(blocks) or [len(mean)])]
    widths = torch.tensor(blocks or (len(mean),))
    balance = torch.repeat_interleave(torch.stack(totals).clamp(min=1e-12).rsqrt(), widths)
    values, vectors = torch.linalg.eigh(covariance * torch.outer(balance, balance))
    values, vectors = values.flip(0).clamp(min=1e-12), vectors.flip(1)
    kept, axes = values[:channels], vectors[:, :channels]
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
    scale = kept.sqrt() ** -power
    scale = scale / (kept * scale**2).mean().sqrt()
    return Pca(mean.numpy(), (balance[:, None] * axes * scale).numpy(), float(kept.sum() / values.sum()))
