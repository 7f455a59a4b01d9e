"""Results reported in the literature, listed with their sources in a separate table of the report.

The results are stored in `literature.csv`. They may differ from measured results in features, number of test
videos or protocol, and most are from a single run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd

from tal_bench.report.common.tables import Cell, Group, Header, Table
from tal_bench.report.study.collect import ReportData
from tal_bench.report.study.columns import level
from tal_bench.report.study.notes import number

CAUTION = (
    "Reported by others, not run here: not strictly comparable. Features, test videos, training and protocol "
    "may differ, and most are from a single run."
)
PRESET_SUFFIX = "-opentad"
"""Suffix of dataset presets that are another layout of the same dataset."""


@dataclass(frozen=True)
class Reported:
    """A result reported in the literature.

    Attributes:
        method: Name of the method.
        modalities: Input modalities.
        features: Features on which the method was trained.
        at: Reported mAP in percent by metric (`map_0.50`, `map_avg`).
        source: Publication with the table of the numbers.
        url: URL of the source.
        setting: Known differences in the setting, or empty.
    """

    method: str
    modalities: str
    features: str
    at: dict[str, float]
    source: str
    url: str
    setting: str


def reported_table(study: ReportData, source: Callable[[Reported], Cell] | None = None) -> Table | None:
    """Return the table of reported results, with a column of sources if `source` is given; None without."""
    rows = reported(study)
    if not rows:
        return None
    metrics = (*study.metrics, "map_avg")
    headers = [Header(name, text=True) for name in ("Method", "Modalities", "Features")]
    headers += [Header("Avg" if metric == "map_avg" else level(metric)) for metric in metrics]
    lines = [
        [
            *(Cell(text, classes="text") for text in (row.method, row.modalities, row.features)),
            *(Cell(number(row.at.get(metric))) for metric in metrics),
            *([source(row)] if source else []),
        ]
        for row in rows
    ]
    return Table([*headers, *([Header("Source", text=True)] if source else [])], [Group("", lines)])


def reported(study: ReportData) -> list[Reported]:
    """Return the reported results on the study's dataset."""
    table = _table()
    rows = table[table["dataset"] == study.record.dataset.lower().removesuffix(PRESET_SUFFIX)]
    return [
        Reported(
            method=line["method"],
            modalities=line["modalities"],
            features=line["features"],
            at={
                "map_avg" if column == "avg" else f"map_{float(column):.2f}": float(line[column])
                for column in _levels(table)
                if line[column]
            },
            source=line["source"],
            url=line["url"],
            setting=line["setting"],
        )
        for line in rows.to_dict("records")
    ]


def _levels(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column == "avg" or column.startswith("0.")]


@cache
def _table() -> pd.DataFrame:
    file = resources.files("tal_bench.report.study").joinpath("literature.csv")
    with file.open(encoding="utf-8") as text:
        return pd.read_csv(text, dtype=str, keep_default_na=False)
