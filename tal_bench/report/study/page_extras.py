"""What other commands left beside a study's results, for its page: diagnosis and robustness."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.report.common.page_parts import Cell, Group, Header, Picture, Section, Table, picture

DIAGNOSIS = {
    "gains": "What each kind of error costs.",
    "profile": "Kinds of false positives among the best detections.",
    "groups": "Which ground truths are hard, and which are missed.",
    "timelines": "The videos that changed most.",
}
"""Figure of `tal-bench diagnose` to what it shows."""


def diagnosis_section(folder: Path | None) -> Section | None:
    """Figures of `<study>/diagnosis`, none where it was not diagnosed."""
    shown = _pictures(folder, "diagnosis", DIAGNOSIS)
    text = ["Made by `tal-bench diagnose`; its tables lie in `diagnosis/`."]
    return Section("Errors", text, figures=shown) if shown else None


def robustness_section(folder: Path | None) -> Section | None:
    """Figure and means over all corruptions of `<study>/robustness`, none where it was not measured."""
    if folder is None:
        return None
    shown = _pictures(folder, "robustness", {"robustness": "mAP on corrupted videos."})
    file = folder / "robustness" / "robustness.csv"
    tables = [_mean_over_corruptions(pd.read_csv(file))] if file.is_file() else []
    text = ["Made by `tal-bench robustness`; every corruption and severity lies in `robustness/`."]
    return Section("Robustness", text, tables, figures=shown) if shown or tables else None


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
            *(Cell(_spread(line, what)) for what in ("clean", "map", "drop")),
            Cell(_interval(line)),
        ]
        for line in means.to_dict("records")
    ]
    return Table(headers, [Group("", lines)])


def _spread(line: Mapping[Hashable, Any], what: str) -> str:
    mean, sd = line[f"{what}_mean"], line[f"{what}_sd"]
    return f"{mean:.1f}" if pd.isna(sd) else f"{mean:.1f} ± {sd:.1f}"


def _interval(line: Mapping[Hashable, Any]) -> str:
    middle, low, high = (line[f"delta_drop{end}"] for end in ("", "_low", "_high"))
    if pd.isna(middle):
        return "–"
    return f"{'≈ ' * (low <= 0 <= high)}{middle:+.1f} [{low:+.1f}, {high:+.1f}]"


def _pictures(folder: Path | None, name: str, shown: Mapping[str, str]) -> list[Picture]:
    if folder is None:
        return []
    files = {figure: folder / name / f"{figure}.png" for figure in shown}
    return [picture(file.read_bytes(), shown[figure]) for figure, file in files.items() if file.is_file()]
