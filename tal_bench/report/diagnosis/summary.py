"""Diagnosis of the runs of a study, or of detection files, as tables; a line says what run it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.diagnosis import (
    CATEGORIES,
    PROFILE_SLICES,
    Diagnosis,
    diagnose,
    false_positive_profile,
    gains,
    video_ap,
)
from tal_bench.evaluation.files import read_detections
from tal_bench.evaluation.label_alignment import align_labels, align_videos
from tal_bench.evaluation.sensitivity import BinChoice, Bins, bin_truths, characteristics, group_table
from tal_bench.report.diagnosis.source import Source

BASELINE = "none"
AVERAGE, ALL_ERRORS, MISSED = "average mAP", "all errors", "missed"


@dataclass(frozen=True, eq=False)
class Diagnosed:
    """The outcome; mAP and shares in percent. Every frame has columns row and seed.

    Attributes:
        source: what was diagnosed.
        against: the row that others are compared with.
        compared: the row whose videos are shown beside it: of the other students (or all, without others) the
            one with the highest average mAP; none with one row.
        bins: of the ground truths.
        runs: (row, seed) to what its detections are.
        profile: tiou, slice (1 = best G detections of each class, 2 = the next G …), category, detections.
        gains: what (average mAP, each error, all errors, missed), points.
        groups: characteristic, bin, truths, missed, never_found, map_n.
        videos: video, ap.
    """

    source: Source
    against: str
    compared: str | None
    bins: tuple[Bins, ...]
    runs: Mapping[tuple[str, int | None], Diagnosis]
    profile: pd.DataFrame
    gains: pd.DataFrame
    groups: pd.DataFrame
    videos: pd.DataFrame

    @property
    def row_names(self) -> list[str]:
        """Rows that were diagnosed, in the order of the source."""
        return list(dict.fromkeys(name for name, _ in self.runs))

    def group_means(self, value: str) -> pd.DataFrame:
        """A column of `groups`, mean over seeds: (characteristic, bin) × rows; NaN for an empty bin."""
        means = self.groups.groupby(["characteristic", "bin", "row"], sort=False)[value].mean()
        return means.unstack("row", sort=False)[self.row_names]

    def changes(self) -> pd.Series[float]:
        """Points of AP that each video gains from `against` to `compared`, mean over seeds, falling."""
        means = self.videos.groupby(["row", "video"], sort=False)["ap"].mean()
        if self.compared is None:
            return pd.Series(dtype=np.float64)
        change: pd.Series[float] = means[self.compared] - means[self.against]
        return change.sort_values(ascending=False, kind="stable")


def diagnosed(
    source: Source, *, rows: Sequence[str] = (), against: str | None = None, bins: BinChoice = "auto"
) -> Diagnosed:
    """Diagnose every run of a source.

    Args:
        source: from `study_source` or `files_source`.
        rows: names of the rows to look at; all when none.
        against: the row that others are compared with; `none` where there is one, else the first.
        bins: see `bin_truths`.

    Raises:
        InputError: no such row.
    """
    chosen = _choose(source, rows, against)
    against = against or (BASELINE if BASELINE in chosen else chosen[0])
    runs = {(name, seed): _one(source, file) for name in chosen for seed, file in source.rows[name]}
    truth = next(iter(runs.values())).truth
    found = tuple(bin_truths(characteristics(truth, source.durations), bins))
    gained = _frame({key: _gain_lines(run) for key, run in runs.items()})
    means = gained[gained["what"] == AVERAGE].groupby("row")["points"].mean()
    others = [n for n in chosen if n != against and n in source.students] or [
        n for n in chosen if n != against
    ]
    return Diagnosed(
        source=source,
        against=against,
        compared=max(others, key=lambda name: float(means[name])) if others else None,
        bins=found,
        runs=runs,
        profile=_frame({key: _profile_lines(run) for key, run in runs.items()}),
        gains=gained,
        groups=_frame({key: _group_lines(run, found) for key, run in runs.items()}),
        videos=_frame({key: _video_lines(run) for key, run in runs.items()}),
    )


def _choose(source: Source, rows: Sequence[str], against: str | None) -> list[str]:
    for flag, name in [*(("--row", name) for name in rows), ("--against", against)]:
        if name is not None and name not in source.rows:
            hint = f"there are {', '.join(source.rows)}"
            raise InputError(f"no row '{name}' with detections", where=flag, hint=hint)
    wanted = {*rows, against} if rows else set(source.rows)
    return [name for name in source.rows if name in wanted]


def _one(source: Source, file: Path) -> Diagnosis:
    videos = source.truth.attrs["videos"]
    detections = align_videos(read_detections(file), videos, where=file)
    detections = align_labels(detections, source.truth, where=file)
    return diagnose(detections, source.truth, source.thresholds, videos=videos)


def _frame(parts: Mapping[tuple[str, int | None], pd.DataFrame]) -> pd.DataFrame:
    named = [
        part.assign(row=row, seed=pd.Series([seed] * len(part), dtype="Int64", index=part.index))
        for (row, seed), part in parts.items()
    ]
    table = pd.concat(named, ignore_index=True)
    return table[["row", "seed", *(column for column in table.columns if column not in ("row", "seed"))]]


def _profile_lines(run: Diagnosis) -> pd.DataFrame:
    table = false_positive_profile(run)
    index: list[Sequence[Any]] = [range(1, PROFILE_SLICES + 1), run.matches.thresholds.tolist(), CATEGORIES]
    lines = pd.MultiIndex.from_product(index, names=["slice", "tiou", "category"])
    return pd.DataFrame({"detections": table.ravel()}, index=lines).reset_index()


def _gain_lines(run: Diagnosis) -> pd.DataFrame:
    found = gains(run)
    values = {AVERAGE: found.average_map, **found.errors, ALL_ERRORS: found.all_errors, MISSED: found.missed}
    return pd.DataFrame({"what": list(values), "points": [100 * value for value in values.values()]})


def _group_lines(run: Diagnosis, bins: Sequence[Bins]) -> pd.DataFrame:
    table = group_table(run, bins)
    columns = ["missed", "never_found", "map_n"]
    return table.assign(**{column: 100 * table[column] for column in columns})


def _video_lines(run: Diagnosis) -> pd.DataFrame:
    ap = video_ap(run.matches).mean(axis=0)
    known = np.isfinite(ap)
    videos = np.asarray(run.matches.videos, dtype=object)
    return pd.DataFrame({"video": videos[known], "ap": 100 * ap[known]})
