"""Write the files of a diagnosis: tables, data and figures."""

from __future__ import annotations

import json
from pathlib import Path

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.plot_style import rendered
from tal_bench.report.diagnosis import figures
from tal_bench.report.diagnosis.summary import DiagnosisReport
from tal_bench.report.diagnosis.tables import TABLES, markdown, summary
from tal_bench.report.diagnosis.timelines import timelines_figure
from tal_bench.system.files import write_atomically

FIGURES: list[FigureDeclaration[DiagnosisReport]] = [
    FigureDeclaration("gains", "Errors", "mAP lost to each type of error.", figures.gains_figure),
    FigureDeclaration(
        "profile", "Errors", "Types of false positives among the best detections.", figures.profile_figure
    ),
    FigureDeclaration(
        "groups",
        "Errors",
        "mAP and missed ground truths by characteristics of the ground truths.",
        figures.groups_figure,
    ),
    FigureDeclaration("timelines", "Errors", "Videos with the largest changes.", timelines_figure),
]
"""Figures of a diagnosis in the order of the page."""


def write_diagnosis(report: DiagnosisReport, folder: Path) -> list[Path]:
    """Write `diagnosis.md`, `diagnosis.json`, a CSV per table, and figures as PNG and SVG.

    Returns:
        Written files.

    Raises:
        InputError: The folder is not writable.
    """
    files: dict[str, str | bytes] = {
        "diagnosis.md": markdown(report),
        "diagnosis.json": json.dumps(summary(report), indent=1) + "\n",
    }
    files |= {
        f"{name}.csv": getattr(report, name).to_csv(index=False, float_format="%.4f") for name in TABLES
    }
    for figure in FIGURES:
        if (drawing := figure.draw(report)) is not None:
            files |= {f"{figure.name}{suffix}": content for suffix, content in rendered(drawing).items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]
