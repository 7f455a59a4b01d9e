"""Is the difference between rows real? An interval that carries the luck of the videos and of the seeds.

Write d_s for the contrast of rows (a difference, an interaction) at seed s. Every seed is tested on the same
videos, so with V for what the draw of test videos adds to every seed alike, A_s for what training adds and
E_s for what happens between the two (this seed is good on these videos),

    d_s = δ + V + A_s + E_s,       Var(mean d) = Var(V) + (Var(A) + Var(E)) / S.

The spread s² of d_s over seeds estimates Var(A) + Var(E); a bootstrap over videos of one seed alone estimates
Var(V) + Var(E), and the covariance between the bootstraps of two seeds, drawn with the same videos, Var(V).
The bootstrap variance of the seed mean is Var(V) + Var(E) / S: adding the whole spread over seeds to it would
count E twice. So E is estimated (variance less covariance of the bootstraps), and what the seeds add is the
excess of s² over it, not less than 0:

    standard error² = V + max(s², E) / S.

n videos tell V and E with n − 1 degrees of freedom (60 videos: a critical value of 2.0), S seeds tell what
training adds with S − 1 (three seeds: 4.3). Satterthwaite's degrees of freedom take the observed variances
for the true ones; with three seeds that happen to agree they leave an interval that is too sure of itself,
and 95 % intervals held the truth in 91 to 93 % of simulated studies whose seeds differed a lot. So each part
has its own critical value and the squares are added (the modified large-sample interval: Howe, JASA 1974;
Graybill & Wang, JASA 1980):

    half width² = t²(n − 1) · (standard error² − seed part) + t²(S − 1) · seed part.

The seed part is √(s⁴ − E²) / S: nothing while the seeds spread no more than the interplay explains, and soon
after nearly the whole spread, because S numbers is all that the excess was learned from. Charging the excess
alone covers too little where seeds differ a lot. With it the interval holds the truth in 93 to 97 % of 500
repetitions of every simulated world of `tests/unit/test_significance.py`, with three seeds and with five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
        degrees_of_freedom: those at which a t interval of this standard error is as wide.
        low, high: ends of the t interval.
        level: its confidence level.
        video_variance: of the seed mean, what the draw of videos adds (V + E / S).
        seed_variance: what training adds to the variance of the seed mean; NaN with one seed, which cannot
            tell (the interval then carries the videos alone).
        seeds, videos: how many of each.
        groups: how many groups of videos the bootstrap drew, 0 where it drew videos.
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
    groups: int = 0

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
        groups: group of each video, empty where videos were drawn one by one.
        levels: mAP at each tIoU threshold, `[T, S]`.
        bootstrap_levels: the same under the bootstrap, `[T, S, D]`.
    """

    videos: tuple[object, ...]
    average: Floats
    bootstrap: Floats
    key: tuple[int, int]
    groups: tuple[str, ...] = ()
    levels: Floats | None = None
    bootstrap_levels: Floats | None = None

    def at(self, place: int) -> RowSample:
        """The sample of mAP at one threshold, by its place, in the stead of the average.

        Raises:
            InputError: the sample was made without thresholds.
        """
        if self.levels is None or self.bootstrap_levels is None:
            raise InputError("a sample of the average alone", where="RowSample.at")
        return replace(
            self,
            average=self.levels[place],
            bootstrap=self.bootstrap_levels[place],
            levels=None,
            bootstrap_levels=None,
        )

    def seeds(self, places: Sequence[int]) -> RowSample:
        """The sample of some of the seeds, by their places."""
        chosen = list(places)
        return replace(
            self,
            average=self.average[chosen],
            bootstrap=self.bootstrap[chosen],
            levels=None if self.levels is None else self.levels[:, chosen],
            bootstrap_levels=None if self.bootstrap_levels is None else self.bootstrap_levels[:, chosen],
        )


def paired_difference(
    a: Sequence[Matches] | RowSample,
    b: Sequence[Matches] | RowSample,
    *,
    draws: int = DRAWS,
    random_seed: int = 0,
    level: float = 0.95,
    groups: Mapping[Any, str] | None = None,
) -> Interval:
    """Average mAP of row `a` less that of row `b`; arguments and errors as `contrast`."""
    return contrast([a, b], [1.0, -1.0], draws=draws, random_seed=random_seed, level=level, groups=groups)


def contrast(
    rows: Sequence[Sequence[Matches] | RowSample],
    coefficients: Sequence[float],
    *,
    draws: int = DRAWS,
    random_seed: int = 0,
    level: float = 0.95,
    groups: Mapping[Any, str] | None = None,
) -> Interval:
    """Σ coefficient · (average mAP of the row), with the interval described at the head of this module.

    Args:
        rows: per row the matches of each seed, seeds in the same order; all on the same test videos.
        coefficients: one per row.
        draws: bootstrap draws over videos.
        random_seed: of the bootstrap; the same number gives the same interval.
        level: confidence level, in (0, 1).
        groups: video to the group that is drawn as a whole; none = every video by itself.

    Raises:
        InputError: rows differ in seeds, videos or groups, a video has no group, or a number is out of range.
    """
    if len(rows) != len(coefficients) or not rows:
        raise InputError(f"{len(rows)} rows and {len(coefficients)} coefficients", where="contrast")
    if not 0 < level < 1:
        raise InputError(f"level {level}", where="contrast", hint="give a number in (0, 1), as 0.95")
    samples = [
        row
        if isinstance(row, RowSample)
        else sample_row(row, draws=draws, random_seed=random_seed, groups=groups)
        for row in rows
    ]
    _check_paired(samples)
    weight = np.asarray(coefficients, dtype=np.float64)
    per_seed = np.einsum("r,rs->s", weight, np.stack([sample.average for sample in samples]))
    bootstrap = np.einsum("r,rsd->sd", weight, np.stack([sample.bootstrap for sample in samples]))
    first = samples[0]
    return interval(
        per_seed, bootstrap, n_videos=len(first.videos), n_groups=len(set(first.groups)), level=level
    )


def sample_row(
    row: Sequence[Matches],
    *,
    draws: int = DRAWS,
    random_seed: int = 0,
    groups: Mapping[Any, str] | None = None,
) -> RowSample:
    """Average mAP of each seed of a row, measured and bootstrapped; arguments and errors as `contrast`."""
    if not row:
        raise InputError("a row without seeds", where="contrast")
    videos = row[0].videos
    if any(matches.videos != videos for matches in row):
        raise InputError("seeds of one row were tested on different videos", where="contrast")
    drawn = _groups_of(videos, groups) if groups is not None else ()
    units = len(set(drawn)) if drawn else len(videos)
    if units < 2 or draws < 2:
        kind = "groups of videos" if drawn else "videos"
        raise InputError(
            f"{units} {kind}, {draws} draws", where="contrast", hint="a bootstrap needs two of each"
        )
    weights = video_draws(len(videos), draws, random_seed, drawn)
    found = [ap_from_matches(matches) for matches in row]
    average = np.array([np.nanmean(ap) for ap in found])
    levels = np.stack([np.nanmean(ap, axis=-1) for ap in found], axis=1)
    # Averaged over the classes that a draw contains, as an evaluation of that draw would.
    drawn_ap = [ap_from_matches(matches, weights) for matches in row]
    bootstrap = np.stack([np.nanmean(ap, axis=(1, 2)) for ap in drawn_ap])
    bootstrap_levels = np.stack([np.nanmean(ap, axis=2).T for ap in drawn_ap], axis=1)
    return RowSample(videos, average, bootstrap, (draws, random_seed), drawn, levels, bootstrap_levels)


def _groups_of(videos: Sequence[Any], groups: Mapping[Any, str]) -> tuple[str, ...]:
    without = [video for video in videos if video not in groups]
    if without:
        raise InputError(f"{len(without)} videos without a group, {without[0]!r} first", where="contrast")
    return tuple(groups[video] for video in videos)


def video_draws(n_videos: int, draws: int, random_seed: int, groups: Sequence[str] = ()) -> Floats:
    """How often each video occurs in each bootstrap draw `[D, V]`.

    Videos are drawn, V of them; or, with the group of each video, groups are, as many as there are, and each
    brings all its videos.
    """
    rng = np.random.default_rng(random_seed)
    units, member = n_videos, np.arange(n_videos)
    if groups:
        names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        units = len(names)
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=draws)
    return drawn[:, member].astype(np.float64)


def interval(
    per_seed: Floats, bootstrap: Floats, *, n_videos: int, n_groups: int = 0, level: float = 0.95
) -> Interval:
    """The t interval from a contrast per seed `[S]` and its bootstrap over videos, or groups, `[S, D]`."""
    # Light beside scipy.stats, which would double the time of importing this module.
    from scipy.special import stdtridf, stdtrit

    n_seeds, units = len(per_seed), n_groups or n_videos
    # A bootstrap of V videos varies (V − 1) / V as much as a sample of them does.
    covariance = np.atleast_2d(np.cov(bootstrap)) * units / (units - 1)
    video_variance, seed_variance, seed_part = float(covariance.mean()), float("nan"), 0.0
    if n_seeds > 1:
        own = float(np.trace(covariance)) / n_seeds
        shared = max(float(covariance.sum() - np.trace(covariance)) / (n_seeds * (n_seeds - 1)), 0.0)
        interplay = max(own - shared, 0.0)
        spread = float(np.var(per_seed, ddof=1))
        excess = max(spread - interplay, 0.0)
        video_variance, seed_variance = shared + interplay / n_seeds, excess / n_seeds
        seed_part = float(np.sqrt(excess * (spread + interplay))) / n_seeds  # √(s⁴ − E²)
    total = video_variance + (seed_variance if n_seeds > 1 else 0.0)
    tail = (1 + level) / 2
    videos_t, seeds_t = stdtrit([units - 1, max(n_seeds - 1, 1)], tail)
    reach = float(np.sqrt((total - seed_part) * videos_t**2 + seed_part * seeds_t**2))
    error = float(np.sqrt(total))
    freedom = float(stdtridf(tail, reach / error)) if seed_part > 0 else units - 1.0
    estimate = float(per_seed.mean())
    return Interval(
        estimate=estimate,
        standard_error=error,
        degrees_of_freedom=freedom,
        low=estimate - reach,
        high=estimate + reach,
        level=level,
        video_variance=video_variance,
        seed_variance=seed_variance,
        seeds=n_seeds,
        videos=n_videos,
        groups=n_groups,
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
        if sample.groups != first.groups:
            raise InputError("rows were drawn with different groups of videos", where="contrast")
        if len(sample.average) != len(first.average):
            raise InputError(
                f"rows have {len(first.average)} and {len(sample.average)} seeds",
                where="contrast",
                hint="compare the seeds they share",
            )
        if sample.key != first.key:
            raise InputError(f"rows drawn with {first.key} and {sample.key}", where="contrast")
