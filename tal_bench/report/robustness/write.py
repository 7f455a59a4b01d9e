"""Write the files of a robustness test: tables, data and the figure."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.evaluation.robustness import Robustness
from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.report_files import ReportFiles
from tal_bench.report.robustness.figure import robustness_figure
from tal_bench.report.robustness.tables import csv, markdown, summary

FIGURES: list[FigureDeclaration[Robustness]] = [
    FigureDeclaration("robustness", "Robustness", "mAP on corrupted videos.", robustness_figure, folder="")
]
"""Figures of a robustness test in the order of the page."""


def write_robustness(result: Robustness, folder: Path) -> list[Path]:
    """Write `robustness.md`, `.csv`, `.json`, and the figure as `.png` and `.svg`.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
        IncompleteReportError: The figure could not be drawn; the other files have been written.
    """
    files = ReportFiles(folder, "tal-bench robustness, which reuses its results")
    files.write(
        {
            "robustness.md": markdown(result),
            "robustness.csv": csv(result),
            "robustness.json": json.dumps(summary(result), indent=1, allow_nan=False) + "\n",
        }
    )
    files.draw_all(FIGURES, result)
    return files.finish()
