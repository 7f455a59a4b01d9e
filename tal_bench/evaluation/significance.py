"""Confidence intervals of differences between rows that include the variance of test videos and of seeds.

Let d_s be the contrast of rows (a difference or an interaction) at seed s. Every seed is tested on the same
videos. With V the effect of the sample of test videos (equal for all seeds), A_s the effect of training and
E_s their interaction,

    d_s = δ + V + A_s + E_s,       Var(mean d) = Var(V) + (Var(A) + Var(E)) / S.

The sample variance s² of d_s over seeds estimates Var(A) + Var(E). A bootstrap over the videos of one seed
estimates Var(V) + Var(E), and the covariance between the bootstraps of two seeds, drawn with the same videos,
estimates Var(V). The bootstrap variance of the mean over seeds is Var(V) + Var(E) / S, so adding s² / S to it
would count E twice. Therefore Var(E) is estimated by the variance minus the covariance of the bootstraps, and
the contribution of the seeds is the excess of s² over it, at least 0:

    standard error² = V + max(s², E) / S.

The estimates of V and E from n videos have n − 1 degrees of freedom (60 videos: critical value 2.0), that of
the training variance from S seeds has S − 1 (three seeds: 4.3). Satterthwaite's degrees of freedom treat the
observed variances as the true ones. With three seeds that agree by chance they give intervals that are too
narrow: 95 % intervals covered the true value in 91 to 93 % of simulated studies with a large variance between
seeds. Therefore each part has its own critical value, and the squares are added (modified large-sample
interval: Howe, JASA 1974; Graybill & Wang, JASA 1980):

    half width² = t²(n − 1) · (standard error² − seed part) + t²(S − 1) · seed part.

The seed part is √(s⁴ − E²) / S. It is 0 while the spread of the seeds is explained by E, and approaches
s² / S beyond that, because the excess is estimated from only S numbers. Using the excess itself as the seed
part covers too little if seeds differ a lot. With this interval, coverage is 93 to 97 % in 500 repetitions of
every simulation of `tests/unit/evaluation/test_significance.py`, with three and with five seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Floats, Matches
from tal_bench.evaluation.mean_ap import ap_from_matches

DRAWS = 1000
INTERACTION = (1.0, -1.0, -1.0, 1.0)
"""Coefficients of both-single − cross-modal − cross-structure + self, for rows in this order."""


@dataclass(frozen=True)
class Interval:
    """Confidence interval of a contrast of average mAP, in 0 … 1.

    Attributes:
        estimate: Contrast, mean over seeds.
        standard_error: Standard error of the estimate from videos and seeds.
        degrees_of_freedom: Degrees of freedom of a t interval with this standard error and the same width.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Confidence level.
        video_variance: Contribution of the sample of videos to the variance of the estimate (V + E / S).
        interaction_variance: Part of it that more seeds reduce (E / S).
        seed_variance: Contribution of training to the variance of the estimate; NaN with one seed, where the
            interval includes only the variance of the videos.
        seeds: Number of seeds.
        videos: Number of test videos.
        groups: Number of groups of videos drawn by the bootstrap; 0 if it drew single videos.
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
    interaction_variance: float = 0.0

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class RowSample:
    """Average mAP of a row per seed, measured and in every bootstrap draw.

    Computing the bootstrap takes most of the time, so rows of several contrasts are sampled once with
    `sample_row` and passed to `contrast`.

    Attributes:
        videos: Test videos.
        average: Average mAP per seed `[S]`.
        bootstrap: Average mAP per seed and draw `[S, D]`; draw d uses the same videos in every seed and row.
        key: Number of draws and random seed; only rows with equal keys can be compared.
        groups: Group of each video; empty if single videos were drawn.
        levels: mAP at each tIoU threshold `[T, S]`.
        bootstrap_levels: mAP at each tIoU threshold in every draw `[T, S, D]`.
    """

    videos: tuple[object, ...]
    average: Floats
    bootstrap: Floats
    key: tuple[int, int]
    groups: tuple[str, ...] = ()
    levels: Floats | None = None
    bootstrap_levels: Floats | None = None

    def at_threshold(self, index: int) -> RowSample:
        """Return the sample of mAP at one tIoU threshold, given by its index.

        Raises:
            InputError: The sample contains no mAP at single thresholds.
        """
        if self.levels is None or self.bootstrap_levels is None:
            raise InputError("the sample has no mAP at single thresholds", where="RowSample.at_threshold")
        return replace(
            self,
            average=self.levels[index],
            bootstrap=self.bootstrap_levels[index],
            levels=None,
            bootstrap_levels=None,
        )

    def select_seeds(self, indices: Sequence[int]) -> RowSample:
        """Return the sample of some of the seeds, given by their indices."""
        index = list(indices)
        return replace(
            self,
            average=self.average[index],
            bootstrap=self.bootstrap[index],
            levels=None if self.levels is None else self.levels[:, index],
            bootstrap_levels=None if self.bootstrap_levels is None else self.bootstrap_levels[:, index],
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
    """Compute the average mAP of row `a` minus that of row `b`; arguments and errors as in `contrast`."""
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
    """Compute Σ coefficient · (average mAP of the row) with the interval described in the module docstring.

    Args:
        rows: Matches of each seed per row, or samples of the rows; seeds in the same order, and all on the
            same test videos.
        coefficients: One coefficient per row.
        draws: Number of bootstrap draws over videos.
        random_seed: Random seed of the bootstrap; equal seeds give equal intervals.
        level: Confidence level in (0, 1).
        groups: Group of each video, drawn as a whole by the bootstrap; None to draw single videos.

    Raises:
        InputError: Rows differ in seeds, videos or groups, a video has no group, or a number is out of range.
    """
    if len(rows) != len(coefficients) or not rows:
        raise InputError(f"{len(rows)} rows and {len(coefficients)} coefficients", where="contrast")
    if not 0 < level < 1:
        raise InputError(f"level {level}", where="contrast", hint="give a number in (0, 1) such as 0.95")
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
    """Compute the average mAP of each seed of a row, measured and bootstrapped.

    Arguments and errors as in `contrast`.
    """
    if not row:
        raise InputError("a row has no seeds", where="contrast")
    videos = row[0].videos
    if any(matches.videos != videos for matches in row):
        raise InputError("seeds of one row were tested on different videos", where="contrast")
    video_groups = _video_groups(videos, groups) if groups is not None else ()
    units = len(set(video_groups)) if video_groups else len(videos)
    if units < 2 or draws < 2:
        kind = "groups of videos" if video_groups else "videos"
        raise InputError(
            f"{units} {kind}, {draws} draws", where="contrast", hint="a bootstrap needs at least two of each"
        )
    weights = video_draws(len(videos), draws, random_seed, video_groups)
    measured = [ap_from_matches(matches) for matches in row]
    average = np.array([np.nanmean(ap) for ap in measured])
    levels = np.stack([np.nanmean(ap, axis=-1) for ap in measured], axis=1)
    # Means are over the classes that a draw contains, as in an evaluation of that draw.
    drawn = [ap_from_matches(matches, weights) for matches in row]
    bootstrap = np.stack([np.nanmean(ap, axis=(1, 2)) for ap in drawn])
    bootstrap_levels = np.stack([np.nanmean(ap, axis=2).T for ap in drawn], axis=1)
    return RowSample(videos, average, bootstrap, (draws, random_seed), video_groups, levels, bootstrap_levels)


def _video_groups(videos: Sequence[Any], groups: Mapping[Any, str]) -> tuple[str, ...]:
    without = [video for video in videos if video not in groups]
    if without:
        raise InputError(f"{len(without)} videos have no group, for example {without[0]!r}", where="contrast")
    return tuple(groups[video] for video in videos)


def video_draws(n_videos: int, draws: int, random_seed: int, groups: Sequence[str] = ()) -> Floats:
    """Count how often each video occurs in each bootstrap draw `[D, V]`.

    A draw consists of V videos. With the group of each video in `groups`, it consists of as many groups as
    there are, each with all its videos.
    """
    rng = np.random.default_rng(random_seed)
    units, member = n_videos, np.arange(n_videos)
    if groups:
        names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        units = len(names)
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=draws)
    return drawn[:, member].astype(np.float64)


class VarianceParts(NamedTuple):
    """Parts of the variance of a contrast or row over seeds; see the module docstring.

    Attributes:
        shared: V, the variance of the sample of videos that all seeds share.
        interaction: E, the variance of the videos' effect that differs between seeds.
        spread: s², the variance of the values over seeds.
        excess: Part of the spread that E does not explain, at least 0.
    """

    shared: float
    interaction: float
    spread: float
    excess: float


def variance_parts(per_seed: Floats, covariance: Floats) -> VarianceParts:
    """Split a variance into its parts, from values `[S]` and the covariance of their bootstraps `[S, S]`.

    At least two seeds are needed.
    """
    seeds = len(per_seed)
    trace = float(np.trace(covariance))
    shared = max((float(covariance.sum()) - trace) / (seeds * (seeds - 1)), 0.0)
    interaction = max(trace / seeds - shared, 0.0)
    spread = float(np.var(per_seed, ddof=1))
    return VarianceParts(shared, interaction, spread, max(spread - interaction, 0.0))


def interval(
    per_seed: Floats, bootstrap: Floats, *, n_videos: int, n_groups: int = 0, level: float = 0.95
) -> Interval:
    """Compute the t interval of a contrast from its value per seed `[S]` and its bootstrap `[S, D]`."""
    # scipy.stats would double the time of importing this module.
    from scipy.special import stdtridf, stdtrit

    n_seeds, units = len(per_seed), n_groups or n_videos
    # The variance of a bootstrap of V videos is (V − 1) / V of the variance of a sample of V videos.
    covariance = np.atleast_2d(np.cov(bootstrap)) * units / (units - 1)
    video_variance, seed_variance, seed_part = float(covariance.mean()), float("nan"), 0.0
    interaction = 0.0
    if n_seeds > 1:
        shared, interaction, spread, excess = variance_parts(per_seed, covariance)
        video_variance, seed_variance = shared + interaction / n_seeds, excess / n_seeds
        seed_part = float(np.sqrt(excess * (spread + interaction))) / n_seeds  # √(s⁴ − E²) / S
    total = video_variance + (seed_variance if n_seeds > 1 else 0.0)
    tail = (1 + level) / 2
    videos_t, seeds_t = stdtrit([units - 1, max(n_seeds - 1, 1)], tail)
    half_width = float(np.sqrt((total - seed_part) * videos_t**2 + seed_part * seeds_t**2))
    standard_error = float(np.sqrt(total))
    degrees_of_freedom = float(stdtridf(tail, half_width / standard_error)) if seed_part > 0 else units - 1.0
    estimate = float(per_seed.mean())
    return Interval(
        estimate=estimate,
        standard_error=standard_error,
        degrees_of_freedom=degrees_of_freedom,
        low=estimate - half_width,
        high=estimate + half_width,
        level=level,
        video_variance=video_variance,
        seed_variance=seed_variance,
        seeds=n_seeds,
        videos=n_videos,
        groups=n_groups,
        interaction_variance=interaction / n_seeds,
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
            raise InputError("rows were bootstrapped with different groups of videos", where="contrast")
        if len(sample.average) != len(first.average):
            raise InputError(
                f"rows have {len(first.average)} and {len(sample.average)} seeds",
                where="contrast",
                hint="compare only the seeds that all rows have",
            )
        if sample.key != first.key:
            raise InputError(
                f"rows were bootstrapped with (draws, random seed) {first.key} and {sample.key}",
                where="contrast",
            )
