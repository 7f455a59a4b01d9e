"""Measure how much mAP the rows of a study lose on corrupted videos, and compare rows with a baseline.

For every run, m is the average mAP on the clean test videos and m_c the one on a corrupted version of them.
The relative drop is (m − m_c) / m. The m_c of a corruption is the mean over its versions. "all" is the mean
over corruptions, so that a corruption with nine versions counts as much as one with three.

Differences to a baseline are paired by seed and test video: all rows and versions use the same bootstrap
draws of videos, and the statistic is computed in every draw. Intervals are those of `significance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Floats
from tal_bench.evaluation.significance import Interval, interval
from tal_bench.system.text import counted

ALL = "all"
"""Name of the mean over corruptions."""
Version = tuple[str, int, float]
"""Name of the corruption, severity, and share of the frames that are corrupted."""


@dataclass(frozen=True, eq=False)
class RunScores:
    """Average mAP of one run, 0 … 1.

    Attributes:
        row: Name of the run's row.
        seed: Seed of the training.
        clean: Average mAP on clean videos `[1 + D]`: the measured value, then one value per bootstrap draw.
        corrupted: The same array for each corrupted version.
    """

    row: str
    seed: int
    clean: Floats
    corrupted: dict[Version, Floats]


@dataclass(frozen=True)
class Line:
    """Result of one row for one corruption; mAP and drops in percent, differences in points.

    Attributes:
        row: Name of the row.
        corruption: Name of the corruption, or `ALL`.
        severity: Severity of the version; None for the mean over versions.
        share: Share of corrupted frames of the version; None for the mean over versions.
        clean: Average mAP on clean videos, mean over seeds.
        clean_sd: Its standard deviation over seeds (n − 1); NaN with one seed.
        map: Average mAP on corrupted videos, mean over versions and seeds.
        map_sd: Its standard deviation over seeds.
        drop: Relative drop of mAP, mean over seeds.
        drop_sd: Its standard deviation over seeds.
        map_difference: Difference of `map` to the baseline; None without a baseline or shared seeds.
        drop_difference: Difference of `drop` to the baseline; negative if the row loses less.
        seeds: Number of runs.
        versions: Number of versions in the mean.
    """

    row: str
    corruption: str
    severity: int | None
    share: float | None
    clean: float
    clean_sd: float
    map: float
    map_sd: float
    drop: float
    drop_sd: float
    map_difference: Interval | None
    drop_difference: Interval | None
    seeds: int
    versions: int


@dataclass(frozen=True, eq=False)
class _Row:
    """Scores of all runs of a row, stacked over seeds `[S, 1 + D]`."""

    name: str
    seeds: tuple[int, ...]
    clean: Floats
    corrupted: dict[Version, Floats]

    def select_seeds(self, seeds: Sequence[int]) -> _Row:
        index = [self.seeds.index(seed) for seed in seeds]
        corrupted = {version: scores[index] for version, scores in self.corrupted.items()}
        return _Row(self.name, tuple(seeds), self.clean[index], corrupted)


Statistic = Callable[[Floats, Floats], Floats]
"""Function of clean and corrupted mAP, both `[S, 1 + D]`, that is compared between rows."""


def relative_drop(clean: Floats, corrupted: Floats) -> Floats:
    """Compute (m − m_c) / m elementwise; NaN where m is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(clean > 0, (clean - corrupted) / clean, np.nan)


def robustness(runs: Iterable[RunScores], *, against: str | None, videos: int, groups: int = 0) -> list[Line]:
    """Summarise every row for all corruptions together, each corruption, and each version.

    Args:
        runs: Scores of the runs of all rows, on the same versions.
        against: Name of the baseline row, or None.
        videos: Number of test videos; no differences are computed for a single video (or group).
        groups: Number of groups drawn by the bootstrap; 0 if it drew single videos.

    Raises:
        InputError: There is no run or no such baseline, or the runs were tested on different versions.
    """
    rows = _rows(list(runs))
    if against is not None and against not in rows:
        raise InputError(f"no row '{against}'", where="--against", hint=f"choose from {', '.join(rows)}")
    baseline = rows[against] if against is not None and (groups or videos) > 1 else None
    versions = list(next(iter(rows.values())).corrupted)
    by_name: dict[str, list[Version]] = {}
    for version in versions:
        by_name.setdefault(version[0], []).append(version)
    # Version (None for a mean), name, and the versions to average, grouped by corruption.
    means: list[tuple[Version | None, str, list[list[Version]]]] = [(None, ALL, list(by_name.values()))]
    means += [(None, name, [group]) for name, group in by_name.items()]
    means += [(version, version[0], [[version]]) for version in versions]
    return [
        _line(row, baseline, name, version, members, videos, groups)
        for version, name, members in means
        for row in rows.values()
    ]


def _rows(runs: Sequence[RunScores]) -> dict[str, _Row]:
    if not runs:
        raise InputError("there is no run", where="robustness")
    members: dict[str, list[RunScores]] = {}
    for run in runs:
        if list(run.corrupted) != list(runs[0].corrupted):
            raise InputError("runs were tested on different versions", where="robustness")
        members.setdefault(run.row, []).append(run)
    return {
        name: _Row(
            name,
            tuple(run.seed for run in group),
            np.stack([run.clean for run in group]),
            {version: np.stack([run.corrupted[version] for run in group]) for version in group[0].corrupted},
        )
        for name, group in members.items()
    }


def _mean(row: _Row, corruptions: Sequence[Sequence[Version]]) -> Floats:
    """Return the mean over corruptions of the mean mAP over their versions `[S, 1 + D]`."""
    means = [np.mean([row.corrupted[version] for version in versions], axis=0) for versions in corruptions]
    return np.asarray(np.mean(means, axis=0))


def _line(
    row: _Row,
    baseline: _Row | None,
    name: str,
    version: Version | None,
    corruptions: Sequence[Sequence[Version]],
    videos: int,
    groups: int,
) -> Line:
    clean, corrupted = row.clean[:, 0], _mean(row, corruptions)[:, 0]
    drop = relative_drop(clean, corrupted)

    def difference(statistic: Statistic) -> Interval | None:
        if baseline is None or baseline.name == row.name:
            return None
        shared = [seed for seed in row.seeds if seed in baseline.seeds]
        if not shared:
            return None
        a, b = (
            statistic(r.clean, _mean(r, corruptions))
            for r in (row.select_seeds(shared), baseline.select_seeds(shared))
        )
        points = 100 * (a - b)
        if not np.isfinite(points).all():
            return None
        return interval(points[:, 0], points[:, 1:], n_videos=videos, n_groups=groups)

    return Line(
        row=row.name,
        corruption=name,
        severity=version[1] if version else None,
        share=version[2] if version else None,
        clean=100 * float(clean.mean()),
        clean_sd=100 * _sd(clean),
        map=100 * float(corrupted.mean()),
        map_sd=100 * _sd(corrupted),
        drop=100 * float(drop.mean()),
        drop_sd=100 * _sd(drop),
        map_difference=difference(lambda _, corrupted: corrupted),
        drop_difference=difference(relative_drop),
        seeds=len(row.seeds),
        versions=sum(map(len, corruptions)),
    )


def _sd(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass
class Robustness:
    """Result of a robustness test.

    Attributes:
        title: Title of tables and figures.
        level: Whether pixels or features were corrupted.
        kinds: Kind of each row, in the order of the tables.
        against: Name of the baseline row; None with a single row.
        lines: Results of every row for every corruption.
        runs: Row, seed, mAP stored by the study, mAP measured here, and mAP of every version, per run.
        provenance: Sentences on the origin of the numbers.
        notes: Sentences on how to interpret the numbers.
    """

    title: str
    level: Literal["pixels", "features"]
    kinds: dict[str, str]
    against: str | None
    lines: list[Line]
    runs: list[dict[str, Any]]
    provenance: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def corruptions(self) -> list[str]:
        """Names of the corruptions, preceded by `ALL` if there are several."""
        names = list(dict.fromkeys(line.corruption for line in self.lines if line.corruption != ALL))
        return [ALL, *names] if len(names) > 1 else names

    def line(self, row: str, corruption: str) -> Line:
        """Return the result of a row for a corruption, mean over all its versions."""
        return next(
            line
            for line in self.lines
            if line.row == row and line.corruption == corruption and line.severity is None
        )

    @property
    def seeds(self) -> int:
        """Largest number of runs of any row."""
        return max(line.seeds for line in self.lines)

    @property
    def seeds_text(self) -> str:
        """Number of runs of the rows in words, such as `8 seeds`, or `3 to 8 seeds` where rows differ."""
        return counted((line.seeds for line in self.lines), "seed")
