"""Ranks and wins of rows over one or several datasets.

The rank of a row on a dataset is 1 for the largest average mAP; equal rows share the mean of their ranks. The
mean over datasets does not depend on how difficult each dataset is (Demšar, JMLR 2006). The interval of a
mean rank comes from the bootstrap over test videos (see `significance`): every draw takes videos of every
dataset, independently of the others, and for every row as many of its seeds as it has, with replacement, and
ranks the rows anew; the ends are percentiles of the draws. The interval does not include the variance of
choosing datasets, and few seeds understate the variance of training.

A row wins against another one on a dataset if the simultaneous interval of their difference (see `all_pairs`)
excludes 0. Everything else is a tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tal_bench.errors import InputError
from tal_bench.evaluation.all_pairs import Comparison, Pair
from tal_bench.evaluation.matching import Floats
from tal_bench.evaluation.significance import RowSample


@dataclass(frozen=True)
class MeanRank:
    """Mean rank of a row over datasets.

    Attributes:
        mean: Mean rank, at least 1.
        low: Lower end of its interval.
        high: Upper end of its interval.
        level: Confidence level.
        ranks: Rank on each dataset.
    """

    mean: float
    low: float
    high: float
    level: float
    ranks: tuple[float, ...]


@dataclass(frozen=True)
class Outcomes:
    """Number of datasets on which a row wins against another one, cannot be told apart from it, or loses."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(self.wins + other.wins, self.ties + other.ties, self.losses + other.losses)


def mean_ranks(
    datasets: Sequence[Mapping[str, RowSample]], *, level: float = 0.95, random_seed: int = 0
) -> dict[str, MeanRank]:
    """Compute the mean ranks of the rows that all datasets have, by name, the best row first.

    Args:
        datasets: Samples of the rows by name on each dataset, all with the same number of draws.
        level: Confidence level in (0, 1).
        random_seed: Random seed of the draws of seeds, and of how the draws of different datasets are paired.

    Returns:
        Mean ranks; empty if fewer than two rows are on all datasets.

    Raises:
        InputError: There is no dataset, or the numbers of draws differ.
    """
    if not datasets:
        raise InputError("no datasets", where="mean_ranks")
    names = [name for name in datasets[0] if all(name in rows for rows in datasets)]
    if len(names) < 2:
        return {}
    draws = {rows[name].bootstrap.shape[1] for rows in datasets for name in names}
    if len(draws) > 1:
        raise InputError(f"rows with {sorted(draws)} bootstrap draws", where="mean_ranks")
    measured = np.stack([_ranks(np.array([rows[n].average.mean() for n in names])) for rows in datasets])
    rng = np.random.default_rng(random_seed)
    drawn = []
    for rows in datasets:
        means = np.stack([_draw_seeds(rows[name].bootstrap, rng) for name in names])
        # Datasets of equal size have the same draws, which would tie the k-th videos of both together.
        drawn.append(_ranks(means[:, rng.permutation(means.shape[1])]))
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - level) / 2, (1 + level) / 2], axis=-1)
    mean = measured.mean(axis=0)
    return {
        names[k]: MeanRank(
            float(mean[k]), float(low[k]), float(high[k]), level, tuple(map(float, measured[:, k]))
        )
        for k in np.argsort(mean, kind="stable")
    }


def _draw_seeds(bootstrap: Floats, rng: np.random.Generator) -> Floats:
    """Return the mean over seeds drawn with replacement in each draw, `[S, D]` to `[D]`."""
    drawn = rng.integers(len(bootstrap), size=bootstrap.shape)
    means: Floats = np.take_along_axis(bootstrap, drawn, axis=0).mean(axis=0)
    return means


def _ranks(values: Floats) -> Floats:
    """Return the rank of each row in descending order, 1 for the largest, for values `[R]` or `[R, D]`."""
    larger = (values[None] > values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    ranks: Floats = larger + (equal + 1) / 2
    return ranks


def outcomes(comparisons: Sequence[Comparison]) -> dict[Pair, Outcomes]:
    """Count wins, ties and losses of every row against every other one, over the datasets that have both."""
    found: dict[Pair, Outcomes] = {}
    for comparison in comparisons:
        for (a, b), pair in comparison.pairs.items():
            interval = pair.simultaneous
            won, lost = int(interval.low > 0), int(interval.high < 0)
            one = Outcomes(won, 1 - won - lost, lost)
            found[a, b] = found.get((a, b), Outcomes()) + one
            found[b, a] = found.get((b, a), Outcomes()) + Outcomes(lost, one.ties, won)
    return found
