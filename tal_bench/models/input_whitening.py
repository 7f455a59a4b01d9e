"""Soft whitening of the features that a detector reads: principal components of more equal variance.

Features whose channels are correlated train slowly and end lower, because the optimizer scales its steps
weight by weight. Full whitening removes the correlations, but it also lifts directions that vary little,
which often are noise, to the size of all others. Here component k of variance v_k is multiplied by
1 / sqrt(v_k + s v), where v is the mean variance of the components that are kept and s is `SHRINKAGE`: strong
directions come to about the same size, weak ones stay weak.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

SHRINKAGE = 4.0
"""s: 0 would be full whitening, infinity a rotation; docs/sprites.md says how it was chosen."""
NEGLIGIBLE = 1e-10
"""Components with a smaller share of the largest variance are rounding errors; they are set to zero."""


class ModalityWhitening(nn.Module):
    """Components (x - mean) matrix of one modality; both are buffers, stored with the weights.

    Before `fit_whitening` it keeps the first channels as they are.

    Args:
        channels: C, the number of channels.
        width: K, the number of components, at most C.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels, width))
        self.mean: Tensor
        self.matrix: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, K]."""
        return (x - self.mean.to(x.dtype)) @ self.matrix.to(x.dtype)


class Whitening(nn.Module):
    """Whitening of each modality by itself.

    Args:
        channels: Channels of each modality.
        limit: Largest number of components of a modality.
    """

    def __init__(self, channels: Sequence[int], limit: int) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.modalities = nn.ModuleList(ModalityWhitening(c, min(c, limit)) for c in channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features [B, T, sum of C_m] and mask [B, T, 1] -> components [B, T, sum of K_m], 0 where padded."""
        parts = zip(self.modalities, x.split(self.channels, dim=2), strict=True)
        return torch.cat([whiten(part) for whiten, part in parts], dim=2) * mask

    def fit(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set the components, from mean [C_m] and covariance [C_m, C_m] of each modality."""
        for part, (mean, covariance) in zip(self.modalities, statistics, strict=True):
            assert isinstance(part, ModalityWhitening)
            part.mean.copy_(mean)
            part.matrix.copy_(components(covariance, part.matrix.shape[1]))


def components(covariance: Tensor, width: int) -> Tensor:
    """Compute the matrix [C, K] of the softly whitened principal components, in order of falling variance.

    All components are scaled so that the mean variance of those that vary is 1. The largest weight of each
    component is positive, which makes the matrix unique. Without any variance the matrix is zero.

    Args:
        covariance: Covariance [C, C] of the channels, float64.
        width: K, the number of components.
    """
    c = covariance.shape[0]
    largest = float(covariance.diagonal().max())
    if not largest > 0:
        return torch.zeros(c, width, dtype=torch.float64)
    values, vectors = scipy.linalg.eigh((covariance / largest).numpy(), subset_by_index=[c - width, c - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    varies = values > NEGLIGIBLE * values[0]
    mean = values[varies].mean()
    gain = np.where(varies, 1.0 / np.sqrt(np.maximum(values, 0.0) + SHRINKAGE * mean), 0.0)
    gain /= np.sqrt((values * gain**2)[varies].mean() * largest)
    top = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return torch.from_numpy(vectors * np.sign(top) * gain)
