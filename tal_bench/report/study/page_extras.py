"""Sections of the page with the output of `tal-bench diagnose` and `tal-bench robustness`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.report.common.page_parts import Cell, Group, Header, Picture, Section, Table, picture

DIAGNOSIS_CAPTIONS = {
    "gains": "mAP lost to each type of error.",
    "profile": "Types of false positives among the best detections.",
    "groups": "mAP and missed ground truths by characteristics of the ground truths.",
    "timelines": "Videos with the largest changes.",
}


def diagnosis_section(folder: Path | None) -> Section | None:
    """Return the section with the figures of `<study>/diagnosis`; None if there are none."""
    pictures = _pictures(folder, "diagnosis", DIAGNOSIS_CAPTIONS)
    text = ["Output of `tal-bench diagnose`; its tables are in `diagnosis/`."]
    return Section("Errors", text, figures=pictures) if pictures else None


def robustness_section(folder: Path | None) -> Section | None:
    """Return the section with figure and means over corruptions of `<study>/robustness`; None if absent."""
    if folder is None:
        return None
    pictures = _pictures(folder, "robustness", {"robustness": "mAP on corrupted videos."})
    file = folder / "robustness" / "robustness.csv"
    tables = [_mean_over_corruptions(pd.read_csv(file))] if file.is_file() else []
    text = ["Output of `tal-bench robustness`; results of each corruption and severity are in `robustness/`."]
    return Section("Robustness", text, tables, figures=pictures) if pictures or tables else None


def _mean_over_corruptions(table: pd.DataFrame) -> Table:
    headers = [
        Header("Row", text=True),
        Header("Clean mAP ↑"),
        Header("Corrupted mAP ↑"),
        Header("Relative drop (%) ↓"),
        Header("Drop against the reference [95 % CI]"),
    ]
    means = table[table["corruption"] == "all"]
    lines = [
        [
            Cell(str(line["row"]), classes="text"),
            *(Cell(_spread(line, column)) for column in ("clean", "map", "drop")),
            Cell(_interval(line)),
        ]
        for line in means.to_dict("records")
    ]
    return Table(headers, [Group("", lines)])


def _spread(line: Mapping[Hashable, Any], column: str) -> str:
    mean, sd = line[f"{column}_mean"], line[f"{column}_sd"]
    return f"{mean:.1f}" if pd.isna(sd) else f"{mean:.1f} ± {sd:.1f}"


def _interval(line: Mapping[Hashable, Any]) -> str:
    estimate, low, high = (line[f"delta_drop{end}"] for end in ("", "_low", "_high"))
    if pd.isna(estimate):
        return "–"
    return f"{'≈ ' * (low <= 0 <= high)}{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"


def _pictures(folder: Path | None, name: str, captions: Mapping[str, str]) -> list[Picture]:
    if folder is None:
        return []
    files = {figure: folder / name / f"{figure}.png" for figure in captions}
    return [picture(file.read_bytes(), captions[figure]) for figure, file in files.items() if file.is_file()]
