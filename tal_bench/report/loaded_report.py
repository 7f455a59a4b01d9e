"""The report of a study without its runs, such as a published one, as the tables of `load_study`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.evaluation.significance import Interval
from tal_bench.report.diagnosis.summary import DiagnosisTables, read_tables
from tal_bench.report.loaded import COUNTS, INTERVAL, TEXT, LoadedStudy, load_study
from tal_bench.report.study.trials import importances
from tal_bench.results.choice import choose_study
from tal_bench.results.columns import TRAINING_COLUMNS, number_types, ordered_keys


@dataclass(frozen=True, eq=False)
class LoadedReport:
    """Files that `report` and `diagnose` wrote of a study, read on first use of each property.

    It has the tables of `LoadedStudy` whose files are there. Tables of missing files are empty: older reports
    have no `runs.csv` and `trials.csv`.

    Attributes:
        folder: Folder of the report.
    """

    folder: Path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`."""
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return found

    @property
    def runs(self) -> pd.DataFrame:
        """All runs, one per row of the DataFrame, with the columns of `load_runs`."""
        return self._read("runs.csv", ["row", "kind", "seed", "split", "status", "map_avg"])

    @property
    def interaction(self) -> Interval | None:
        """Interaction both-single − cross-modal − cross-structure + self; None unless all rows exist."""
        found = self.summary["interaction"]
        return Interval(**found) if found else None

    @cached_property
    def _table(self) -> pd.DataFrame:
        return self._read("table.csv", ["row"]).set_index("row")

    def table(self) -> pd.DataFrame:
        """Return the study's table, with the columns of `LoadedStudy.table`."""
        numbers = [name for name in self._table.columns if name.startswith("map_") or name in self._cost_keys]
        table = self._table.reindex(columns=[*TEXT, *COUNTS, *numbers]).fillna({"teachers": ""})
        return table.astype(number_types(numbers))

    def costs(self) -> pd.DataFrame:
        """Return the costs of each row's model, with the columns of `LoadedStudy.costs`."""
        return self.table()[self._cost_keys]

    @cached_property
    def _cost_keys(self) -> list[str]:
        training = {column.key for column in TRAINING_COLUMNS}
        return [
            key for key in ordered_keys(self._table.columns) if key in self._table and key not in training
        ]

    def differences(self) -> pd.DataFrame:
        """Return the paired differences to `none` and `self`, as `LoadedStudy.differences`."""
        parts = []
        for base in ("none", "self"):
            names = [f"delta_{base}{end}" for end in ("", "_low", "_high", "_clear")]
            if set(names) <= set(self._table.columns):
                part = self._table[names].set_axis(list(INTERVAL), axis=1).dropna(subset="difference")
                parts.append(part.assign(against=base).reset_index())
        table = pd.concat(parts) if parts else pd.DataFrame(columns=["row", "against", *INTERVAL])
        order = {row: place for place, row in enumerate(self._table.index)}
        table = table.sort_values("row", key=lambda rows: rows.map(order), kind="stable", ignore_index=True)
        return table[["row", "against", *INTERVAL]].astype({"clear": bool})

    def pairs(self) -> pd.DataFrame:
        """Return the differences between all pairs of student rows, as `LoadedStudy.pairs`."""
        return self._read("pairs.csv", [])

    def trials(self) -> dict[str, pd.DataFrame]:
        """Return a table of the tuning runs of each tuned row, as `LoadedStudy.trials`."""
        table = self._read("trials.csv", ["row"])
        parts = {str(row): part for row, part in table.groupby("row", sort=False)}
        return {
            row: part.drop(columns="row").dropna(axis=1, how="all").reset_index(drop=True)
            for row, part in parts.items()
        }

    def importances(self) -> pd.DataFrame:
        """Return tuned rows × settings: shares of the variance of validation mAP, as of `LoadedStudy`."""
        shares = {name: found for name, table in self.trials().items() if (found := importances(table))}
        return pd.DataFrame.from_dict(shares, orient="index")

    def settings(self) -> pd.DataFrame:
        """Return tuned rows × settings: the values chosen on validation."""
        chosen = {str(row): json.loads(text) for row, text in self._table["settings"].items()}
        return pd.DataFrame.from_dict({row: found for row, found in chosen.items() if found}, orient="index")

    def diagnose(self, rows: Sequence[str] = ()) -> DiagnosisTables:
        """Return the tables that `diagnose` wrote.

        Args:
            rows: Names of rows; empty for all.

        Raises:
            InputError: There is no diagnosis, or a row does not exist in it.
        """
        return read_tables(self.folder / "diagnosis", rows)

    def _read(self, name: str, otherwise: Sequence[str]) -> pd.DataFrame:
        """Read a table whose rows may be named like numbers or missing values; empty if it is missing."""
        file = self.folder / name
        if not file.is_file():
            return pd.DataFrame(columns=list(otherwise))
        texts = dict.fromkeys(("row", "against"), str)
        return pd.read_csv(file, dtype=texts, keep_default_na=False, na_values=[""])


def load_results(folder: Path | str | None = None) -> LoadedStudy | LoadedReport:
    """Open a study, or a report without its runs, such as a published one.

    Args:
        folder: Folder of a study or of a report. None for that of `choose_study`.

    Raises:
        InputError: The folder contains neither, or none was found.
    """
    found = Path(folder or choose_study().folder)
    if not (found / "study.json").exists() and (found / "summary.json").is_file():
        return LoadedReport(found)
    return load_study(found)
