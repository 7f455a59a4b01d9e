"""Write the files of a diagnosis: tables, data and figures."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.report_files import ReportFiles
from tal_bench.report.common.tables import csv_table
from tal_bench.report.diagnosis import figures
from tal_bench.report.diagnosis.summary import DiagnosisReport
from tal_bench.report.diagnosis.tables import TABLES, markdown, summary
from tal_bench.report.diagnosis.timelines import timelines_figure

FIGURES: list[FigureDeclaration[DiagnosisReport]] = [
    FigureDeclaration("gains", "Errors", "mAP lost to each type of error.", figures.gains_figure, folder=""),
    FigureDeclaration(
        "profile",
        "Errors",
        "Types of false positives among the best detections.",
        figures.profile_figure,
        folder="",
    ),
    FigureDeclaration(
        "groups",
        "Errors",
        "mAP and missed ground truths by characteristics of the ground truths.",
        figures.groups_figure,
        folder="",
    ),
    FigureDeclaration("timelines", "Errors", "Videos with the largest changes.", timelines_figure, folder=""),
]
"""Figures of a diagnosis in the order of the page."""


def write_diagnosis(report: DiagnosisReport, folder: Path) -> list[Path]:
    """Write `diagnosis.md`, `diagnosis.json`, a CSV per table, and figures as PNG and SVG.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
        IncompleteReportError: A figure could not be drawn; the other files have been written.
    """
    files = ReportFiles(folder, "tal-bench diagnose")
    files.write(
        {
            "diagnosis.md": markdown(report),
            "diagnosis.json": json.dumps(summary(report), indent=1) + "\n",
            **{f"{name}.csv": csv_table(getattr(report, name), digits=4) for name in TABLES},
        }
    )
    files.draw_all(FIGURES, report)
    return files.finish()
