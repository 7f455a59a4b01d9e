"""Rows of several studies and files of detections side by side, as plain data and as pandas tables."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tal_bench.evaluation.all_pairs import Comparison, Pair
from tal_bench.evaluation.ranks import MeanRank, Outcomes
from tal_bench.evaluation.significance import Interval, RowSample
from tal_bench.report.comparison.detections import DetectionFile
from tal_bench.report.study import columns
from tal_bench.report.study.collect import KINDS, ReportData, Row
from tal_bench.report.study.pairs import pairs_frame

DETECTIONS = "detections"
"""Kind of a row that is a file of detections."""
HEADINGS = {**KINDS, DETECTIONS: "Files of detections"}
"""Headings of the kinds of rows, in the order of the tables."""
COMPARED = ("student", DETECTIONS)
"""Kinds of rows that are compared unless rows are named."""


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """A row of a study, or a file of detections, on one dataset.

    Attributes:
        name: Name in the tables: the row's own, after the study's name where several studies have it.
        kind: `teacher`, `reference`, `student` or `detections`.
        study: Name of its study; empty for a file of detections.
        sample: Average mAP per seed, measured and bootstrapped; None without detections.
        row: Row of the study's report; None for a file of detections.
        difference: Paired difference to `none` of its study, for a file to that of the first study with
            `none`, in points; None if there is none.
    """

    name: str
    kind: str
    study: str
    sample: RowSample | None
    row: Row | None
    difference: Interval | None

    @property
    def mean(self) -> float | None:
        """Average mAP in percent, mean over seeds; None without results."""
        if self.row is not None:
            return self.row.mean()
        return None if self.sample is None else 100 * float(self.sample.average.mean())

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds in percent; None with fewer than two."""
        return self.row.sd() if self.row is not None else None


@dataclass(frozen=True, eq=False)
class ComparedDataset:
    """Rows on the test videos of one dataset.

    Attributes:
        name: Name of the dataset.
        studies: Reports of the studies by name.
        rows: Teachers, references, students and files of detections.
        comparison: All pairs of the compared rows, in mAP of 0 … 1; None with fewer than two.
        files: Files of detections by name of their row.
    """

    name: str
    studies: Mapping[str, ReportData]
    rows: tuple[ComparedRow, ...]
    comparison: Comparison | None
    files: Mapping[str, DetectionFile]

    @property
    def report(self) -> ReportData:
        """Report of the first study; its dataset, tIoU grid and AP method are those of all studies."""
        return next(iter(self.studies.values()))

    @property
    def compared(self) -> dict[str, RowSample]:
        """Samples of the compared rows by name."""
        names = self.comparison.means if self.comparison else ()
        return {row.name: row.sample for row in self.rows if row.sample and row.name in names}

    @property
    def letters(self) -> dict[str, str]:
        """Letters of each compared row; rows with a common letter cannot be told apart."""
        groups = self.comparison.groups() if self.comparison else []
        alphabet = [*string.ascii_letters, *(f"({k})" for k in range(len(groups)))]
        return {
            name: "".join(letter for letter, group in zip(alphabet, groups, strict=False) if name in group)
            for group in groups
            for name in group
        }


@dataclass(frozen=True, eq=False)
class StudyComparison:
    """Several studies side by side, from `compare`.

    Attributes:
        datasets: Rows and differences on each dataset.
        ranks: Mean rank of each row that is compared on all datasets, the best first; empty with fewer than
            two.
        outcomes: Number of datasets with a win, a tie and a loss of the first row against the second one.
    """

    datasets: tuple[ComparedDataset, ...]
    ranks: Mapping[str, MeanRank]
    outcomes: Mapping[Pair, Outcomes]

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each row by name, in the order of the tables."""
        rows = [row for dataset in self.datasets for row in dataset.rows]
        return {row.name: row.kind for kind in HEADINGS for row in rows if row.kind == kind}

    def table(self) -> pd.DataFrame:
        """Return one line per dataset and row, unrounded.

        Columns: those of a study's `table.csv`, `compared`, and `letters`; rows with a common letter cannot
        be told apart.
        """
        return pd.DataFrame([_line(dataset, row) for dataset in self.datasets for row in dataset.rows])

    def pairs(self) -> pd.DataFrame:
        """Return one line per dataset and pair of compared rows, in points.

        Columns: dataset, and those of `LoadedStudy.pairs`. Empty without pairs.
        """
        frames = {d.name: pairs_frame(d.comparison) for d in self.datasets if d.comparison}
        if not frames:
            return pd.DataFrame()
        return pd.concat(frames, names=["dataset"]).reset_index("dataset").reset_index(drop=True)

    def mean_ranks(self) -> pd.DataFrame:
        """Return one line per ranked row: row, mean_rank, low, high, and `rank_<dataset>` per dataset."""
        names = [f"rank_{dataset.name}" for dataset in self.datasets]
        lines = [(row, r.mean, r.low, r.high, *r.ranks) for row, r in self.ranks.items()]
        return pd.DataFrame(lines, columns=["row", "mean_rank", "low", "high", *names])

    def wins(self) -> pd.DataFrame:
        """Return one line per ordered pair: row, against, number of datasets with wins, ties and losses."""
        lines = [(row, base, x.wins, x.ties, x.losses) for (row, base), x in self.outcomes.items()]
        return pd.DataFrame(lines, columns=["row", "against", "wins", "ties", "losses"])


def _line(dataset: ComparedDataset, row: ComparedRow) -> dict[str, Any]:
    marks = dataset.letters.get(row.name)
    if row.row is not None:
        own = {"row": row.name, "compared": marks is not None, "letters": marks}
        return columns.line(dataset.studies[row.study], row.row) | own
    values = {
        f"map_{tiou:.2f}_mean": 100 * float(level.mean())
        for tiou, level in zip(dataset.report.record.tiou, _levels(row), strict=True)
    }
    d = row.difference
    return {
        "dataset": dataset.name,
        "row": row.name,
        "kind": row.kind,
        "seeds": 1,
        "seeds_expected": 1,
        "fingerprint": dataset.report.record.fingerprint,
        **values,
        "map_avg_mean": row.mean,
        "delta_none": d.estimate if d else None,
        "delta_none_low": d.low if d else None,
        "delta_none_high": d.high if d else None,
        "delta_none_clear": d.excludes_zero if d else None,
        "compared": marks is not None,
        "letters": marks,
    }


def _levels(row: ComparedRow) -> Sequence[Any]:
    return [] if row.sample is None or row.sample.levels is None else list(row.sample.levels)
