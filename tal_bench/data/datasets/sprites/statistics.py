"""Statistics of the streams: prediction of flow from RGB, and accuracy of linear classifiers."""

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


def probe_ap(x: Array, y: Array, x_new: Array, y_new: Array, iterations: int = 60) -> float:
    """Compute the mean average precision of classifying single steps by logistic regression.

    Args:
        x: Features [N, C].
        y: Multi-hot classes [N, K].
        x_new: Features of other videos [M, C].
        y_new: Classes of other videos [M, K].
        iterations: Number of iterations of L-BFGS.

    Returns:
        Mean over classes of frame-level average precision, 0 … 1.
    """
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    z, target = torch.from_numpy((x - mean) / deviation), torch.from_numpy(y)
    layer = torch.nn.Linear(z.shape[1], y.shape[1])
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(layer(z), target)
        loss = loss + 1e-4 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        scores = layer(torch.from_numpy((x_new - mean) / deviation)).numpy()
    present = np.flatnonzero(y_new.any(0))
    return float(np.mean([_average_precision(scores[:, k], y_new[:, k]) for k in present]))


def _average_precision(scores: Array, truth: Array) -> float:
    hits = truth[np.argsort(-scores, kind="stable")] > 0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
