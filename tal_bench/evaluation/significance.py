"""Is the difference between rows real? An interval that carries the luck of the videos and of the seeds.

Write d_s for the contrast of rows (a difference, an interaction) at seed s. Every seed is tested on the same
videos, so with V for what the draw of test videos adds to every seed alike, A_s for what training adds and
E_s for what happens between the two (this seed is good on these videos),

    d_s = δ + V + A_s + E_s,       Var(mean d) = Var(V) + (Var(A) + Var(E)) / S.

The spread of d_s over seeds estimates Var(A) + Var(E); a bootstrap over videos of one seed alone estimates
Var(V) + Var(E), and the covariance between the bootstraps of two seeds, drawn with the same videos, Var(V).
The bootstrap variance of the seed mean is Var(V) + Var(E) / S: adding the whole spread over seeds to it would
count E twice. So E is estimated (variance less covariance of the bootstraps), and what the seeds add beyond
it is the seed variance, not less than 0. The degrees of freedom are charged for the whole spread over seeds
as soon as it exceeds E, because S numbers is all that the excess was learned from; charged for the excess
alone, three seeds that happen to agree would give an interval that is too sure of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Floats, Matches
from tal_bench.evaluation.mean_ap import ap_from_matches

DRAWS = 1000
INTERACTION = (1.0, -1.0, -1.0, 1.0)
"""Coefficients of both-single − cross-modal − cross-structure + self, rows in that order."""


@dataclass(frozen=True)
class Interval:
    """A contrast of average mAP with its uncertainty; all in mAP points of 0 … 1.

    Attributes:
        estimate: the contrast, mean over seeds.
        standard_error: of the estimate, videos and seeds together.
        degrees_of_freedom: after Satterthwaite (1946).
        low, high: ends of the t interval.
        level: its confidence level.
        video_variance: bootstrap-over-videos variance of the seed mean.
        seed_variance: what training adds to the variance of the seed mean; NaN with one seed, which cannot
            tell (the interval then carries the videos alone).
        seeds, videos: how many of each.
    """

    estimate: float
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float
    level: float
    video_variance: float
    seed_variance: float
    seeds: int
    videos: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class RowSample:
    """One row's average mAP per seed, as measured and under the bootstrap; `contrast` takes it for a row.

    Drawing is what costs time: a row that enters several contrasts is drawn once with `sample_row`.

    Attributes:
        videos: the test videos.
        average: `[S]`.
        bootstrap: `[S, D]`, draw d using the same videos in every seed and row.
        key: (draws, random seed), equal in rows that may be compared.
    """

    videos: tuple[object, ...]
    average: Floats
    bootstrap: Floats
    key: tuple[int, int]


def paired_difference(
    a: Sequence[Matches] | RowSample,
    b: Sequence[Matches] | RowSample,
    *,
    draws: int = DRAWS,
    random_seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Average mAP of row `a` less that of row `b`; arguments and errors as `contrast`."""
    return contrast([a, b], [1.0, -1.0], draws=draws, random_seed=random_seed, level=level)


def contrast(
    rows: Sequence[Sequence[Matches] | RowSample],
    coefficients: Sequence[float],
    *,
    draws: int = DRAWS,
    random_seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Σ coefficient · (average mAP of the row), with the interval described at the head of this module.

    Args:
        rows: per row the matches of each seed, seeds in the same order; all on the same test videos.
        coefficients: one per row.
        draws: bootstrap draws over videos.
        random_seed: of the bootstrap; the same number gives the same interval.
        level: confidence level, in (0, 1).

    Raises:
        InputError: rows differ in seeds or videos, or a number is out of range.
    """
    if len(rows) != len(coefficients) or not rows:
        raise InputError(f"{len(rows)} rows and {len(coefficients)} coefficients", where="contrast")
    if not 0 < level < 1:
        raise InputError(f"level {level}", where="contrast", hint="give a number in (0, 1), as 0.95")
    samples = [
        row if isinstance(row, RowSample) else sample_row(row, draws=draws, random_seed=random_seed)
        for row in rows
    ]
    _check_paired(samples)
    weight = np.asarray(coefficients, dtype=np.float64)
    per_seed = np.einsum("r,rs->s", weight, np.stack([sample.average for sample in samples]))
    bootstrap = np.einsum("r,rsd->sd", weight, np.stack([sample.bootstrap for sample in samples]))
    return interval(per_seed, bootstrap, n_videos=len(samples[0].videos), level=level)


def sample_row(row: Sequence[Matches], *, draws: int = DRAWS, random_seed: int = 0) -> RowSample:
    """Average mAP of each seed of a row, measured and bootstrapped over videos; errors as `contrast`."""
    if not row:
        raise InputError("a row without seeds", where="contrast")
    videos = row[0].videos
    if any(matches.videos != videos for matches in row):
        raise InputError("seeds of one row were tested on different videos", where="contrast")
    if len(videos) < 2 or draws < 2:
        raise InputError(
            f"{len(videos)} videos, {draws} draws", where="contrast", hint="a bootstrap needs two of each"
        )
    weights = video_draws(len(videos), draws, random_seed)
    average = np.array([np.nanmean(ap_from_matches(matches)) for matches in row])
    # Averaged over the classes that a draw contains, as an evaluation of that draw would.
    bootstrap = np.stack([np.nanmean(ap_from_matches(matches, weights), axis=(1, 2)) for matches in row])
    return RowSample(videos, average, bootstrap, (draws, random_seed))


def video_draws(n_videos: int, draws: int, random_seed: int) -> Floats:
    """How often each video occurs in each bootstrap draw `[D, V]`; every row sums to V."""
    rng = np.random.default_rng(random_seed)
    return rng.multinomial(n_videos, np.full(n_videos, 1 / n_videos), size=draws).astype(np.float64)


def interval(per_seed: Floats, bootstrap: Floats, *, n_videos: int, level: float = 0.95) -> Interval:
    """The t interval from a contrast per seed `[S]` and its bootstrap over videos `[S, D]`."""
    # Light beside scipy.stats, which would double the time of importing this module.
    from scipy.special import stdtrit

    n_seeds = len(per_seed)
    # A bootstrap of V videos varies (V − 1) / V as much as a sample of them does.
    covariance = np.atleast_2d(np.cov(bootstrap)) * n_videos / (n_videos - 1)
    video_variance = float(covariance.mean())
    total, parts, seed_variance = video_variance, video_variance**2 / (n_videos - 1), float("nan")
    if n_seeds > 1:
        own = float(np.trace(covariance)) / n_seeds
        shared = (float(covariance.sum()) - own * n_seeds) / (n_seeds * (n_seeds - 1))
        interplay = max(own - shared, 0.0)
        spread = float(np.var(per_seed, ddof=1))
        seed_variance = max(spread - interplay, 0.0) / n_seeds
        total += seed_variance
        parts += (spread / n_seeds) ** 2 / (n_seeds - 1) if seed_variance > 0 else 0.0
    freedom = total**2 / parts if parts > 0 else float(n_videos - 1)
    error = float(np.sqrt(total))
    reach = float(stdtrit(freedom, (1 + level) / 2)) * error
    estimate = float(per_seed.mean())
    return Interval(
        estimate=estimate,
        standard_error=error,
        degrees_of_freedom=float(freedom),
        low=estimate - reach,
        high=estimate + reach,
        level=level,
        video_variance=video_variance,
        seed_variance=seed_variance,
        seeds=n_seeds,
        videos=n_videos,
    )


def _check_paired(samples: Sequence[RowSample]) -> None:
    first = samples[0]
    for sample in samples[1:]:
        if sample.videos != first.videos:
            raise InputError(
                f"rows were tested on different videos ({len(first.videos)} and {len(sample.videos)})",
                where="contrast",
                hint="pass the same `videos` to `match` for every row",
            )
        if len(sample.average) != len(first.average):
            raise InputError(
                f"rows have {len(first.average)} and {len(sample.average)} seeds",
                where="contrast",
                hint="compare the seeds they share",
            )
        if sample.key != first.key:
            raise InputError(f"rows drawn with {first.key} and {sample.key}", where="contrast")
