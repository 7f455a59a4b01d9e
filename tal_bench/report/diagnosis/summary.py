"""Diagnosis of the runs of a study, or of detection files, as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.diagnosis import (
    CATEGORIES,
    ERRORS,
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
COLUMNS = (AVERAGE, *ERRORS, ALL_ERRORS, MISSED)


@dataclass(frozen=True, eq=False)
class DiagnosisTables:
    """Tables of a diagnosis, with mAP and shares in percent. All tables have columns row and seed.

    Attributes:
        against: Name of the baseline row.
        compared: Name of the row whose videos are compared with the baseline: the one with the highest
            average mAP among the other students, or among all other rows; None with a single row.
        profile: Table with columns tiou, slice (1 = best G detections of each class, 2 = the next G …),
            category and detections.
        gains: Table with columns what (average mAP, each error, all errors, missed) and points.
        groups: Table with columns characteristic, bin, truths, missed, never_found and map_n.
        videos: Table with columns video and ap.
    """

    against: str
    compared: str | None
    profile: pd.DataFrame
    gains: pd.DataFrame
    groups: pd.DataFrame
    videos: pd.DataFrame

    @property
    def row_names(self) -> list[str]:
        """Names of the diagnosed rows, in the order of the source."""
        return list(dict.fromkeys(self.gains["row"]))

    def gain_means(self) -> pd.DataFrame:
        """Return the points of `gains`, mean over seeds: rows × average mAP, errors, all errors, missed."""
        means = self.gains.groupby(["row", "what"], sort=False)["points"].mean().unstack("what")
        return means.loc[self.row_names, list(COLUMNS)]

    def shares(self, row: str) -> pd.DataFrame:
        """Return the percentage of each category in the slices of a row's profile, mean over tIoU and seeds.

        Returns:
            Slices × categories; NaN for slices without detections.
        """
        part = self.profile[self.profile["row"] == row].astype({"seed": "float64"}).fillna({"seed": -1.0})
        table = part.pivot_table("detections", ["seed", "tiou", "slice"], "category", sort=False)
        total = table.sum(axis=1)
        table = 100 * table.div(total.where(total > 0), axis=0)
        return table.groupby("slice")[list(CATEGORIES)].mean().reindex(range(1, PROFILE_SLICES + 1))

    def group_means(self, value: str) -> pd.DataFrame:
        """Return the mean of a column of `groups`: (characteristic, bin) × rows; NaN for empty bins."""
        means = self.groups.groupby(["characteristic", "bin", "row"], sort=False)[value].mean()
        return means.unstack("row", sort=False)[self.row_names]

    def changes(self) -> pd.Series[float]:
        """Return the gain of AP of each video from `against` to `compared`, in descending order."""
        means = self.videos.groupby(["row", "video"], sort=False)["ap"].mean()
        if self.compared is None:
            return pd.Series(dtype=np.float64)
        change: pd.Series[float] = means[self.compared] - means[self.against]
        return change.sort_values(ascending=False, kind="stable")


@dataclass(frozen=True, eq=False)
class DiagnosisReport(DiagnosisTables):
    """Diagnosis of all runs.

    Attributes:
        source: Detections and ground truth.
        bins: Bins of the ground truths.
        runs: Diagnosis by row and seed.
    """

    source: Source
    bins: tuple[Bins, ...]
    runs: Mapping[tuple[str, int | None], Diagnosis]


def read_tables(folder: Path, rows: Sequence[str] = ()) -> DiagnosisTables:
    """Read the tables that `write_diagnosis` wrote.

    Args:
        folder: Folder with `diagnosis.json` and the tables as CSV.
        rows: Names of rows; empty for all.

    Raises:
        InputError: The folder contains no diagnosis, or a row does not exist in it.
    """
    if not (folder / "diagnosis.json").is_file():
        hint = "`tal-bench diagnose` writes it of a study with its runs"
        raise InputError("no diagnosis there", where=folder, hint=hint)
    about = json.loads((folder / "diagnosis.json").read_text(encoding="utf-8"))
    types: dict[str, Any] = {"row": str, "video": str, "bin": str, "seed": "Int64"}
    tables = {
        name: pd.read_csv(folder / f"{name}.csv", dtype=types, keep_default_na=False, na_values=[""])
        for name in ("profile", "gains", "groups", "videos")
    }
    known = list(dict.fromkeys(tables["gains"]["row"]))
    for row in rows:
        if row not in known:
            raise InputError(
                f"no row '{row}' in the diagnosis", where=folder, hint=f"choose from {', '.join(known)}"
            )
    chosen = {*rows, about["against"]} if rows else set(known)
    kept = {name: table[table["row"].isin(chosen)].reset_index(drop=True) for name, table in tables.items()}
    compared = (
        about["compared"]
        if about["compared"] in chosen
        else next((row for row in reversed(known) if row in chosen - {about["against"]}), None)
    )
    return DiagnosisTables(about["against"], compared, **kept)


def diagnose_source(
    source: Source, *, rows: Sequence[str] = (), against: str | None = None, bins: BinChoice = "auto"
) -> DiagnosisReport:
    """Diagnose every run of a source.

    Args:
        source: Result of `study_source` or `files_source`.
        rows: Names of the rows to diagnose; empty for all.
        against: Name of the baseline row; by default `none` if it exists, else the first row.
        bins: Bins of the ground truths, see `bin_truths`.

    Raises:
        InputError: A row does not exist.
        DataError: A detection file is malformed, or does not fit the ground truth.
    """
    names = _select_rows(source, rows, against)
    against = against or (BASELINE if BASELINE in names else names[0])
    runs = {(name, seed): _diagnose_file(source, file) for name in names for seed, file in source.rows[name]}
    truth = next(iter(runs.values())).truth
    truth_bins = tuple(bin_truths(characteristics(truth, source.durations), bins))
    gain_table = _table({key: _gain_lines(run) for key, run in runs.items()})
    means = gain_table[gain_table["what"] == AVERAGE].groupby("row")["points"].mean()
    others = [name for name in names if name != against]
    others = [name for name in others if name in source.students] or others
    return DiagnosisReport(
        source=source,
        against=against,
        compared=max(others, key=lambda name: float(means[name])) if others else None,
        bins=truth_bins,
        runs=runs,
        profile=_table({key: _profile_lines(run) for key, run in runs.items()}),
        gains=gain_table,
        groups=_table({key: _group_lines(run, truth_bins) for key, run in runs.items()}),
        videos=_table({key: _video_lines(run) for key, run in runs.items()}),
    )


def _select_rows(source: Source, rows: Sequence[str], against: str | None) -> list[str]:
    for flag, name in [*(("--row", name) for name in rows), ("--against", against)]:
        if name is not None and name not in source.rows:
            hint = f"choose from {', '.join(source.rows)}"
            raise InputError(f"no row '{name}' with detections", where=flag, hint=hint)
    selected = {*rows, against} if rows else set(source.rows)
    return [name for name in source.rows if name in selected]


def _diagnose_file(source: Source, file: Path) -> Diagnosis:
    videos = source.truth.attrs["videos"]
    detections = align_videos(read_detections(file), videos, where=file)
    detections = align_labels(detections, source.truth, where=file, reading=source.labels)
    return diagnose(detections, source.truth, source.thresholds, videos=videos)


def _table(parts: Mapping[tuple[str, int | None], pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the tables of all runs with columns for row and seed."""
    labelled = [
        part.assign(row=row, seed=pd.Series([seed] * len(part), dtype="Int64", index=part.index))
        for (row, seed), part in parts.items()
    ]
    table = pd.concat(labelled, ignore_index=True)
    return table[["row", "seed", *(column for column in table.columns if column not in ("row", "seed"))]]


def _profile_lines(run: Diagnosis) -> pd.DataFrame:
    table = false_positive_profile(run)
    index: list[Sequence[Any]] = [range(1, PROFILE_SLICES + 1), run.matches.thresholds.tolist(), CATEGORIES]
    lines = pd.MultiIndex.from_product(index, names=["slice", "tiou", "category"])
    return pd.DataFrame({"detections": table.ravel()}, index=lines).reset_index()


def _gain_lines(run: Diagnosis) -> pd.DataFrame:
    gain = gains(run)
    values = {AVERAGE: gain.average_map, **gain.errors, ALL_ERRORS: gain.all_errors, MISSED: gain.missed}
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
