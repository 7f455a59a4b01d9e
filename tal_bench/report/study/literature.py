"""Results reported in the literature, listed with their sources in a separate table of the report.

They may differ from measured results in features, number of test videos or protocol, and most are from a
single run.
"""

from __future__ import annotations

from collections.abc import Callable

from tal_bench.report.common.formats import number
from tal_bench.report.common.tables import Cell, Group, Header, Table
from tal_bench.report.leaderboard.result import PublishedResult, literature
from tal_bench.report.study.collect import ReportData
from tal_bench.report.study.columns import level

CAUTION = (
    "Reported by others, not run here: not strictly comparable. Features, test videos, training and protocol "
    "may differ, and most are from a single run."
)
PRESET_SUFFIX = "-opentad"
"""Suffix of dataset presets that are another layout of the same dataset."""


def reported_table(
    study: ReportData, source: Callable[[PublishedResult], Cell] | None = None
) -> Table | None:
    """Return the table of reported results, with a column of sources if `source` is given; None without."""
    rows = reported(study)
    if not rows:
        return None
    metrics = (*study.metrics, "map_avg")
    headers = [Header(name, text=True) for name in ("Method", "Modalities", "Features")]
    headers += [Header("Avg" if metric == "map_avg" else level(metric)) for metric in metrics]
    lines = [
        [
            *(Cell(text, classes="text") for text in (row.name, row.modalities, row.features)),
            *(Cell(number(row.map.get(metric))) for metric in metrics),
            *([source(row)] if source else []),
        ]
        for row in rows
    ]
    return Table([*headers, *([Header("Source", text=True)] if source else [])], [Group("", lines)])


def reported(study: ReportData) -> list[PublishedResult]:
    """Return the results of the literature on the study's dataset."""
    dataset = study.record.dataset.lower().removesuffix(PRESET_SUFFIX)
    return [result for result in literature() if result.dataset == dataset]
