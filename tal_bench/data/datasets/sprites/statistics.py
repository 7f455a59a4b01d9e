"""Statistics of the streams: prediction of one from another."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]


def ridge_r2(x: Array, y: Array, x_new: Array, y_new: Array, penalty: float = 1e-3) -> float:
    """Compute R² on new data of a ridge regression from x to y, over all columns of y.

    Args:
        x: Inputs [N, C].
        y: Outputs [N, D].
        x_new: Inputs of other videos [M, C].
        y_new: Outputs of other videos [M, D].
        penalty: Value added to the covariance of standardised inputs.

    Returns:
        1 − (squared error) / (squared deviation from the mean of y).
    """
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    z = torch.from_numpy((x - mean) / deviation).double()
    z_new = torch.from_numpy((x_new - mean) / deviation).double()
    centre = torch.from_numpy(y.mean(0)).double()
    target, target_new = torch.from_numpy(y).double() - centre, torch.from_numpy(y_new).double() - centre
    gram = z.T @ z / len(z) + penalty * torch.eye(z.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, z.T @ target / len(z))
    error = (target_new - z_new @ weight).square().sum()
    return float(1.0 - error / (target_new - target_new.mean(0)).square().sum())
