"""What other commands left beside a study's results, for its page: diagnosis and robustness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tal_bench.report.pieces import Cell, Group, Header, Picture, Section, Table, picture

DIAGNOSIS = {
    "gains": "What each kind of error costs.",
    "profile": "Kinds of false positives among the best detections.",
    "groups": "Which ground truths are hard, and which are missed.",
    "timelines": "The videos that changed most.",
}
"""Figure of `tal-bench diagnose` to what it shows."""
MOST_LINES = 60
"""Lines of a table that a page shows."""


def diagnosis_section(folder: Path | None) -> Section | None:
    """Figures of `<study>/diagnosis`, none where it was not diagnosed."""
    shown = _pictures(folder, "diagnosis", DIAGNOSIS)
    text = ["Made by `tal-bench diagnose`; its tables lie in `diagnosis/`."]
    return Section("Errors", text, figures=shown) if shown else None


def robustness_section(folder: Path | None) -> Section | None:
    """Figure and table of `<study>/robustness`, none where it was not measured."""
    if folder is None:
        return None
    shown = _pictures(folder, "robustness", {"robustness": "mAP on corrupted videos."})
    file = folder / "robustness" / "robustness.csv"
    tables = []
    if file.is_file():
        table = pd.read_csv(file)
        numbers = table.select_dtypes("number").columns
        headers = [Header(str(c).replace("_", " "), text=c not in numbers) for c in table.columns]
        lines = [
            [Cell(_shown(value), classes="" if c in numbers else "text") for c, value in line.items()]
            for line in table.head(MOST_LINES).to_dict("records")
        ]
        tables.append(Table(headers, [Group("", lines)]))
    text = ["Made by `tal-bench robustness`; its tables lie in `robustness/`."]
    return Section("Robustness", text, tables, figures=shown) if shown or tables else None


def _pictures(folder: Path | None, name: str, shown: Mapping[str, str]) -> list[Picture]:
    if folder is None:
        return []
    files = {figure: folder / name / f"{figure}.png" for figure in shown}
    return [picture(file.read_bytes(), shown[figure]) for figure, file in files.items() if file.is_file()]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
