"""Rows of the literature: figures that others report, each with its source, never mixed with measured ones.

They stand in `literature.csv` beside this file. A study on the same dataset shows them apart, marked: other
features, other numbers of test videos, other protocols, mostly one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd

from tal_bench.report.study.collect import Study

CAUTION = (
    "Reported by others, not run here: not strictly comparable. Features, test videos, training and protocol "
    "may differ, and most are a single run."
)
FAMILY = "-opentad"
"""Suffix of presets that are another layout of the same dataset."""


@dataclass(frozen=True)
class Reported:
    """One reported row.

    Attributes:
        method: as its authors call it.
        modalities: that it reads.
        features: that it was trained on.
        at: metric (`map_0.50`, `map_avg`) to mAP in percent, as far as it is reported.
        source: where the figures stand.
        url: of the source.
        setting: what is known to differ, or nothing.
    """

    method: str
    modalities: str
    features: str
    at: dict[str, float]
    source: str
    url: str
    setting: str


def reported(study: Study) -> list[Reported]:
    """Rows for the study's dataset, empty for datasets that nobody else reports."""
    table = _table()
    found = table[table["dataset"] == study.record.dataset.lower().removesuffix(FAMILY)]
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
        for line in found.to_dict("records")
    ]


def _levels(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if column == "avg" or column.startswith("0.")]


@cache
def _table() -> pd.DataFrame:
    file = resources.files("tal_bench.report.study").joinpath("literature.csv")
    with file.open(encoding="utf-8") as text:
        return pd.read_csv(text, dtype=str, keep_default_na=False)
