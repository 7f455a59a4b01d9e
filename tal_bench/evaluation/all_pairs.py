"""Differences between all pairs of rows with simultaneous intervals, groups of rows, and the resolution.

Among many pairs some single 95 % intervals exclude 0 by chance. Simultaneous intervals contain all true
differences at once with the stated probability: every pair gets its interval (see `significance`) at the same
higher level 1 − α', where α' is the `1 - level` quantile of the smallest p-value among the pairs if all true
differences are 0 (single-step min-p adjustment: Westfall & Young, Resampling-Based Multiple Testing, 1993,
section 2.3; Hothorn, Bretz & Westfall, Biometrical Journal 2008). Its distribution is simulated: errors of
the row means are drawn from a normal distribution with the covariance of the bootstrap over videos, which
all rows share, plus the variance of each row over its seeds. Each pair's standard error is drawn from a χ²
distribution with the degrees of freedom of its interval. Because the errors of pairs with a common row are
correlated, the intervals are narrower than with Bonferroni's correction.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Floats
from tal_bench.evaluation.significance import Interval, RowSample, contrast, variance_parts

SIMULATIONS = 20_000
SMALLEST_ALPHA = 1e-6
DIFFERENCE = (1.0, -1.0)

Pair = tuple[str, str]


@dataclass(frozen=True)
class PairDifference:
    """Difference between two rows.

    Attributes:
        single: Interval with the confidence level for this pair alone.
        simultaneous: Interval with the confidence level for all pairs together.
        p_value: Smallest 1 − level at which the simultaneous interval excludes 0 (adjusted p-value).
    """

    single: Interval
    simultaneous: Interval
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Comparison of all pairs of rows on the same test videos.

    Attributes:
        pairs: Difference of the first row minus the second by pair of names; each pair occurs once, in the
            order of the rows.
        level: Confidence level of single intervals, and of all simultaneous intervals together.
        pair_level: Confidence level of each simultaneous interval on its own, at least `level`.
        means: Average mAP of each row, in 0 … 1.
    """

    pairs: Mapping[Pair, PairDifference]
    level: float
    pair_level: float
    means: Mapping[str, float]

    @property
    def order(self) -> list[str]:
        """Names of the rows, the best mean first."""
        return sorted(self.means, key=lambda name: -self.means[name])

    def clear(self, a: str, b: str) -> bool:
        """Return whether the simultaneous interval of two rows excludes 0."""
        return self.pairs[(a, b) if (a, b) in self.pairs else (b, a)].simultaneous.excludes_zero

    def groups(self) -> list[tuple[str, ...]]:
        """Return the largest sets of rows that cannot be told apart, the best row first.

        Rows are ordered by their mean. A set is a run of rows in this order in which no pair differs clearly;
        a row may belong to several sets (compact letter display: Piepho, JCGS 2004).
        """
        order = self.order
        found: list[tuple[str, ...]] = []
        last = 0
        for first in range(len(order)):
            stop = first + 1
            while stop < len(order) and not any(self.clear(order[stop], a) for a in order[first:stop]):
                stop += 1
            if stop > last:
                found.append(tuple(order[first:stop]))
                last = stop
        return found


def compare_all_pairs(
    rows: Mapping[str, RowSample],
    *,
    seeds: Mapping[str, Sequence[int]] | None = None,
    level: float = 0.95,
    random_seed: int = 0,
) -> Comparison:
    """Compute the differences between all pairs of rows.

    Pairs of rows with different seeds are compared on the seeds that both have. Rows without a common seed
    are compared on as many as both have.

    Args:
        rows: Samples of the rows by name, on the same test videos; at least two.
        seeds: Seeds of each row, in the order of its sample; 0, 1, 2 and so on if not given.
        level: Confidence level in (0, 1).
        random_seed: Random seed of the simulation; equal seeds give equal intervals.

    Raises:
        InputError: There are fewer than two rows, or they were tested on different videos.
    """
    if len(rows) < 2:
        raise InputError(f"{len(rows)} rows, need at least two", where="compare_all_pairs")
    pairs = {pair: _paired(rows, pair, seeds or {}) for pair in combinations(rows, 2)}
    single = {pair: contrast(samples, DIFFERENCE, level=level) for pair, samples in pairs.items()}
    smallest = _smallest_p_values(rows, single, np.random.default_rng(random_seed))
    quantile = max(float(np.quantile(smallest, 1 - level)), SMALLEST_ALPHA)
    alpha = min(1 - level, quantile) if len(pairs) > 1 else 1 - level
    differences = {
        pair: PairDifference(
            single[pair],
            contrast(samples, DIFFERENCE, level=1 - alpha),
            _adjusted_p(single[pair], smallest),
        )
        for pair, samples in pairs.items()
    }
    means = {name: float(sample.average.mean()) for name, sample in rows.items()}
    return Comparison(differences, level, 1 - alpha, means)


def _paired(rows: Mapping[str, RowSample], pair: Pair, seeds: Mapping[str, Sequence[int]]) -> list[RowSample]:
    """Return the samples of two rows on their common seeds, or on the first ones if they have none."""
    samples = [rows[name] for name in pair]
    known = [list(seeds.get(name, range(len(rows[name].average)))) for name in pair]
    common = sorted(set(known[0]) & set(known[1]))
    if not common:
        first = range(min(map(len, known)))
        return [sample.select_seeds(first) for sample in samples]
    return [
        sample.select_seeds([own.index(seed) for seed in common])
        for sample, own in zip(samples, known, strict=True)
    ]


def _smallest_p_values(
    rows: Mapping[str, RowSample], single: Mapping[Pair, Interval], rng: np.random.Generator
) -> Floats:
    """Simulate the smallest p-value among all pairs if all true differences are 0, `[SIMULATIONS]`."""
    from scipy.special import stdtr

    names = list(rows)
    errors = rng.multivariate_normal(
        np.zeros(len(names)), _covariance(list(rows.values())), SIMULATIONS, method="eigh"
    )
    smallest = np.ones(SIMULATIONS)
    for (a, b), difference in single.items():
        error = errors[:, names.index(a)] - errors[:, names.index(b)]
        deviation = float(error.std())
        if deviation == 0.0:
            continue
        df = difference.degrees_of_freedom
        statistic = np.abs(error / deviation) / np.sqrt(rng.chisquare(df, SIMULATIONS) / df)
        smallest = np.minimum(smallest, 2 * stdtr(df, -statistic))
    return smallest


def _covariance(samples: Sequence[RowSample]) -> Floats:
    """Estimate the covariance of the row means `[R, R]`.

    The bootstrap of the means over seeds gives the part of the videos. The spread over seeds beyond that
    part is independent between rows.
    """
    means = np.stack([sample.bootstrap.mean(axis=0) for sample in samples])
    covariance = np.atleast_2d(np.cov(means))
    for k, sample in enumerate(samples):
        seeds = len(sample.average)
        if seeds > 1:
            covariance[k, k] += variance_parts(sample.average, np.cov(sample.bootstrap)).excess / seeds
    return covariance


def _adjusted_p(difference: Interval, smallest: Floats) -> float:
    """Return the share of simulations whose smallest p-value is at most that of the difference."""
    from scipy.special import stdtr

    if difference.standard_error == 0.0:  # the same difference in every seed and draw of videos
        if difference.estimate == 0.0:
            return 1.0
        p = 0.0
    else:
        statistic = abs(difference.estimate) / difference.standard_error
        p = 2 * stdtr(difference.degrees_of_freedom, -statistic)
    return float((1 + np.count_nonzero(smallest <= p)) / (1 + len(smallest)))


@dataclass(frozen=True)
class Resolution:
    """Smallest difference that an interval can show, and what would halve it.

    Attributes:
        difference: Half width of the interval, in mAP of 0 … 1.
        seeds: Number of seeds.
        videos: Number of test videos, or of groups of videos if the bootstrap draws groups.
        seeds_to_halve: Number of seeds that would halve it on the same videos; None if no number does.
        videos_to_halve: Number of videos (or groups) that would halve it with the same seeds; None if no
            number does.
    """

    difference: float
    seeds: int
    videos: int
    seeds_to_halve: int | None
    videos_to_halve: int | None


LARGEST = 100_000
"""Largest number of seeds or videos that `resolution` considers."""


def resolution(measured: Interval) -> Resolution:
    """Compute how much wider or narrower an interval would be with other numbers of seeds and videos.

    The parts of its variance (see `significance`) change as V / videos, E / (seeds · videos) and A / seeds,
    their critical values with the degrees of freedom.
    """
    from scipy.special import stdtrit

    seeds, units = measured.seeds, measured.groups or measured.videos
    tail = (1 + measured.level) / 2
    training = 0.0 if np.isnan(measured.seed_variance) else measured.seed_variance
    interaction = measured.interaction_variance
    shared = measured.video_variance - interaction
    seed_part = float(np.sqrt(training * (training + 2 * interaction)))

    def squared_width(n_seeds: float, n_units: float) -> float:
        per_seed, per_unit = seeds / n_seeds, units / n_units
        own = seed_part * per_seed
        total = shared * per_unit + interaction * per_seed * per_unit + training * per_seed
        videos_t, seeds_t = stdtrit([n_units - 1, max(n_seeds - 1, 1)], tail)
        return float(max(total - own, 0.0) * videos_t**2 + own * seeds_t**2)

    aim = squared_width(seeds, units) / 4
    return Resolution(
        (measured.high - measured.low) / 2,
        seeds,
        units,
        _first_number(lambda n: squared_width(n, units) <= aim, seeds),
        _first_number(lambda n: squared_width(seeds, n) <= aim, units),
    )


def _first_number(holds: Callable[[int], bool], start: int) -> int | None:
    """Return the smallest number above `start` for which a monotone condition holds; None up to `LARGEST`."""
    found = bisect_left(range(start + 1, LARGEST + 1), True, key=holds)
    return None if found == LARGEST - start else start + 1 + found
