"""A study on disk as pandas tables and figures, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tal_bench.evaluation.sensitivity import BinChoice
from tal_bench.evaluation.significance import Interval
from tal_bench.report.diagnosis.source import study_source
from tal_bench.report.diagnosis.summary import DiagnosisReport, diagnose_source
from tal_bench.report.study.collect import ReportData, Row, collect, collect_rows
from tal_bench.report.study.columns import line
from tal_bench.report.study.figures import FIGURES
from tal_bench.report.study.pairs import pairs_frame
from tal_bench.report.study.trials import importances, trial_table
from tal_bench.results.columns import cost_columns, number_types
from tal_bench.results.dataframe import load_folder
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEXT = ("kind", "model", "modalities", "teachers")
COUNTS = ("seeds", "seeds_expected")
INTERVAL = ("difference", "low", "high", "clear")


@dataclass(frozen=True, eq=False)
class LoadedStudy:
    """A finished or unfinished study, read from its folder on first use of each property.

    mAP is in percent, and all tables are unrounded. Results that are added to the folder later are seen by
    the next `load_study`.

    Attributes:
        folder: Folder of the study.
        record: Specification, dataset and rows.
    """

    folder: Path
    record: StudyRecord = field(repr=False)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """All runs, one per row of the DataFrame, with the columns of `load_runs`."""
        return load_folder(self.folder)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Rows of the study's table with their runs, without intervals."""
        return tuple(collect_rows(self.folder))

    @cached_property
    def data(self) -> ReportData:
        """Rows with intervals, as from `collect`; the first use takes about a second per final run."""
        return collect(self.folder)

    @property
    def interaction(self) -> Interval | None:
        """Interaction both-single − cross-modal − cross-structure + self; None unless all rows exist."""
        return self.data.interaction

    def table(self) -> pd.DataFrame:
        """Return the study's table: teachers, references and students by name.

        Columns: kind, model, modalities, teachers, seeds, seeds_expected, the mean and standard deviation of
        mAP (`map_0.50_mean`, `map_0.50_sd`, …, `map_avg_mean`, `map_avg_sd`), and the columns of `costs`.
        """
        plain = ReportData(self.record, self.rows, interaction=None, warnings=())
        table = pd.DataFrame([line(plain, row) for row in self.rows], columns=None if self.rows else ["row"])
        table = table.set_index("row")
        maps = [name for name in table.columns if name.startswith("map_")]
        numbers = [*maps, *(name for name in table.columns if name in self._cost_keys)]
        return table.reindex(columns=[*TEXT, *COUNTS, *numbers]).astype(number_types(numbers))

    def costs(self) -> pd.DataFrame:
        """Return the costs of each row's model, the columns of `COST_COLUMNS`; missing until measured.

        Built in are params, gmacs, latency_ms (median) with latency_ms_iqr, peak_memory_mb, and seconds per
        minute of video: minute, its steps (`minute_decode`, …), and the total with other extractors of
        privileged modalities (`minute_with_flow_tvl1`).
        """
        table = self.table()
        return table[[name for name in table.columns if name in self._cost_keys]]

    @cached_property
    def _cost_keys(self) -> set[str]:
        return {column.key for column in cost_columns([row.cost for row in self.rows if row.cost])}

    def differences(self) -> pd.DataFrame:
        """Return the paired differences of average mAP in points, with 95 % intervals; see `data` for time.

        Columns: row, against (`none` or `self`), difference, low, high, clear (the interval excludes 0).
        """
        lines = [
            (row.name, base, *_interval(found))
            for row in self.data.rows
            for base, found in row.differences.items()
        ]
        return pd.DataFrame(lines, columns=["row", "against", *INTERVAL])

    def pairs(self) -> pd.DataFrame:
        """Return the differences of average mAP between all pairs of student rows, in points.

        Columns: row, against, difference, low and high of the single 95 % interval, simultaneous_low and
        simultaneous_high (adjusted for the number of pairs), p_value (adjusted), clear. Empty without
        intervals.
        """
        comparison = self.data.comparison
        return pairs_frame(comparison) if comparison else pd.DataFrame()

    def differences_by_tiou(self) -> pd.DataFrame:
        """Return the differences to `none` at each tIoU threshold.

        Columns: row, tiou, difference, low, high, clear.
        """
        lines = [
            (row.name, tiou, *_interval(found))
            for row in self.data.rows
            for tiou, found in zip(self.record.tiou, row.at_tiou, strict=False)
        ]
        return pd.DataFrame(lines, columns=["row", "tiou", *INTERVAL])

    def trials(self) -> dict[str, pd.DataFrame]:
        """Return a table of the tuning runs of each tuned row, in the order in which they were proposed.

        Columns: number, status, map (on validation; the last evaluation of pruned runs), best (best map of
        finished runs so far), and every setting that was varied.
        """
        return {row.name: trial_table(row) for row in self.rows if row.trials}

    def importances(self) -> pd.DataFrame:
        """Return tuned rows × settings: the share of the variance of validation mAP that a setting explains.

        Shares are those of Optuna's fANOVA, 0 … 1, and unreliable for few trials. Rows with too few trials
        are omitted.
        """
        shares = {name: found for name, table in self.trials().items() if (found := importances(table))}
        return pd.DataFrame.from_dict(shares, orient="index")

    def settings(self) -> pd.DataFrame:
        """Return tuned rows × settings: the values chosen on validation."""
        chosen = {row.name: row.record.settings for row in self.rows if row.record.settings}
        return pd.DataFrame.from_dict(chosen, orient="index")

    def diagnose(
        self, rows: Sequence[str] = (), *, against: str | None = None, bins: BinChoice = "auto"
    ) -> DiagnosisReport:
        """Diagnose the errors of the final runs.

        Args:
            rows: Names of rows; empty for all.
            against: Name of the baseline row; by default `none` if it exists, else the first row.
            bins: Bins of the ground truths.

        Raises:
            InputError: A row does not exist, or no run has detections.
            DataError: A file of detections is malformed.
        """
        return diagnose_source(study_source(self.folder), rows=rows, against=against, bins=bins)

    @property
    def figures(self) -> Mapping[str, Callable[[], Figure | None]]:
        """Functions that draw the figures of the report, by name; they return None if data are missing."""
        return {figure.name: partial(self._draw, figure.draw) for figure in FIGURES}

    def _draw(self, make: Callable[[ReportData], Figure | None]) -> Figure | None:
        return make(self.data)


def load_study(path: Path | str) -> LoadedStudy:
    """Load a study from its folder, such as `reports/two-by-two-sprites`; tables are computed on demand.

    Raises:
        InputError: The folder contains no study, or its record is malformed.
    """
    return LoadedStudy(Path(path), StudyFolder(Path(path)).read_study())


def _interval(found: Interval) -> tuple[float, float, float, bool]:
    return found.estimate, found.low, found.high, found.excludes_zero
