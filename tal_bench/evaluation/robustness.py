"""How much of a row's mAP is left under corruptions, and whether another row keeps more of it.

Of every run: average mAP on the test videos as they are (m), and on each corrupted version of them (m_c). The
relative drop is (m − m_c) / m. A corruption's m_c is the mean over its versions, "all" is the mean over
corruptions, so that one with nine versions counts as much as one with three.

Differences to a baseline are paired by seed and by test video: the same draws of videos are used for every
row and version, the statistic is computed anew in every draw, and the interval is that of ``significance``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tal_bench.errors import InputError
from tal_bench.evaluation.matching import Floats
from tal_bench.evaluation.significance import Interval, interval

ALL = "all"
"""Name of the mean over corruptions."""
Version = tuple[str, int, float]
"""Corruption, severity, share of the frames."""


@dataclass(frozen=True, eq=False)
class RunScores:
    """Average mAP of one run, 0 … 1.

    Attributes:
        row: name of the row that it belongs to.
        seed: of its training.
        clean: on the videos as they are, with its bootstrap `[1 + D]`: measured, then draw by draw.
        corrupted: version to the same.
    """

    row: str
    seed: int
    clean: Floats
    corrupted: dict[Version, Floats]


@dataclass(frozen=True)
class Line:
    """What a corruption does to a row; mAP and drops in percent, differences in points.

    Attributes:
        row: its name.
        corruption: name, or `ALL`.
        severity: of the version; none = mean over all there are.
        share: likewise.
        clean: average mAP without corruption, mean over seeds.
        clean_sd: over seeds (n − 1), NaN with one.
        map: average mAP under it, mean over versions and seeds.
        map_sd: over seeds.
        drop: relative drop of mAP, mean over seeds.
        drop_sd: over seeds.
        map_difference: of `map` to that of the baseline; none without one, or where nothing is paired.
        drop_difference: of `drop` to that of the baseline; below 0 the row loses less.
        seeds: number of runs.
        versions: that the mean is over.
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
    """One row's runs, seeds first: `[S, 1 + D]`."""

    name: str
    seeds: tuple[int, ...]
    clean: Floats
    corrupted: dict[Version, Floats]

    def only(self, seeds: Sequence[int]) -> _Row:
        at = [self.seeds.index(seed) for seed in seeds]
        return _Row(self.name, tuple(seeds), self.clean[at], {k: v[at] for k, v in self.corrupted.items()})


Statistic = Callable[[Floats, Floats], Floats]
"""From mAP without corruption and mAP under it, both `[S, 1 + D]`, to what is compared."""


def relative_drop(clean: Floats, corrupted: Floats) -> Floats:
    """(m − m_c) / m, elementwise; NaN where nothing was found without corruption either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(clean > 0, (clean - corrupted) / clean, np.nan)


def robustness(runs: Iterable[RunScores], *, against: str | None, videos: int, groups: int = 0) -> list[Line]:
    """Every row under every corruption: all together, one by one, and version by version.

    Args:
        runs: of all rows, on the same versions.
        against: row that the others are compared with, or none.
        videos: number of test videos; with one (or one group) there are no differences.
        groups: number of groups that the bootstrap drew, 0 where it drew videos.

    Raises:
        InputError: no run, no such row, or runs differ in versions.
    """
    rows = _rows(list(runs))
    if against is not None and against not in rows:
        raise InputError(f"no row '{against}'", where="--against", hint=f"there are {', '.join(rows)}")
    baseline = rows[against] if against is not None and (groups or videos) > 1 else None
    every = list(next(iter(rows.values())).corrupted)
    named: dict[str, list[Version]] = {}
    for version in every:
        named.setdefault(version[0], []).append(version)
    wanted: list[tuple[Version | None, str, list[list[Version]]]] = [(None, ALL, list(named.values()))]
    wanted += [(None, name, [versions]) for name, versions in named.items()]
    wanted += [(version, version[0], [[version]]) for version in every]
    return [
        _line(row, baseline, name, version, groups_of, videos, groups)
        for version, name, groups_of in wanted
        for row in rows.values()
    ]


def _rows(runs: Sequence[RunScores]) -> dict[str, _Row]:
    if not runs:
        raise InputError("no run was tested", where="robustness")
    members: dict[str, list[RunScores]] = {}
    for run in runs:
        if list(run.corrupted) != list(runs[0].corrupted):
            raise InputError("runs were tested on different versions", where="robustness")
        members.setdefault(run.row, []).append(run)
    return {
        name: _Row(
            name,
            tuple(run.seed for run in found),
            np.stack([run.clean for run in found]),
            {version: np.stack([run.corrupted[version] for run in found]) for version in found[0].corrupted},
        )
        for name, found in members.items()
    }


def _mean(row: _Row, named: Sequence[Sequence[Version]]) -> Floats:
    """Accuracy under corruption `[S, 1 + D]`: the mean over versions of each corruption, then over those."""
    means = [np.mean([row.corrupted[version] for version in versions], axis=0) for versions in named]
    return np.asarray(np.mean(means, axis=0))


def _line(
    row: _Row,
    baseline: _Row | None,
    name: str,
    version: Version | None,
    named: Sequence[Sequence[Version]],
    videos: int,
    groups: int,
) -> Line:
    clean, corrupted = row.clean[:, 0], _mean(row, named)[:, 0]
    drop = relative_drop(clean, corrupted)

    def difference(statistic: Statistic) -> Interval | None:
        if baseline is None or baseline.name == row.name:
            return None
        shared = [seed for seed in row.seeds if seed in baseline.seeds]
        if not shared:
            return None
        a, b = (statistic(r.clean, _mean(r, named)) for r in (row.only(shared), baseline.only(shared)))
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
        map_difference=difference(lambda _, under: under),
        drop_difference=difference(relative_drop),
        seeds=len(row.seeds),
        versions=sum(map(len, named)),
    )


def _sd(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass
class Robustness:
    """The outcome.

    Attributes:
        title: of tables and figures.
        level: what was corrupted.
        kinds: row to its kind, in the order of the tables.
        against: row that others are compared with, none with one row.
        lines: every row under every corruption.
        runs: per run its row, seed, mAP as its study stored it and as found here, and mAP of every version.
        provenance: where the numbers come from.
        notes: what a reader has to know.
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
        """Names, `ALL` first where there are several."""
        names = list(dict.fromkeys(line.corruption for line in self.lines if line.corruption != ALL))
        return [ALL, *names] if len(names) > 1 else names

    def line(self, row: str, corruption: str) -> Line:
        """Of a row under a corruption, over all its versions."""
        return next(
            line
            for line in self.lines
            if line.row == row and line.corruption == corruption and line.severity is None
        )

    @property
    def seeds(self) -> int:
        """Runs of the row with most of them."""
        return max(line.seeds for line in self.lines)
