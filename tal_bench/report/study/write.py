"""Write the tables and figures of a study from its JSON files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tal_bench.report.study.collect import ReportData

__all__ = ["draw", "figure_makers", "summary", "write_report"]

MAIN_FIGURE = "figure"
"""Figure of mAP against cost, written next to the tables."""


def write_report(folder: Path, study: ReportData | None = None) -> list[Path]:
    """Write `page.html`, `table.md`, `.csv` and `.tex`, `summary.json`, `figure.png` and `.svg`, `figures/`.

    For studies with several objectives, `pareto.md`, `.csv`, `.png` and `.svg` are written, too. The study
    may be unfinished. Equal results give equal files.

    Args:
        folder: Folder of the study.
        study: Result of `collect` for the folder; None to collect it. Collecting takes about a second per
            final run on 200 videos, because of the intervals.

    Returns:
        Written files.

    Raises:
        InputError: There is no study, one of its files is malformed, or the folder is not writable.
    """
    from tal_bench.report.study import pareto, tables
    from tal_bench.report.study.collect import collect
    from tal_bench.report.study.page import page
    from tal_bench.system.files import write_atomically

    study = study or collect(folder)
    figures, fronts = draw(study), pareto.files(study)
    images = {name: files[".png"] for name, files in figures.items()}
    images |= {
        name.removesuffix(".png"): x for name, x in fronts.items() if isinstance(x, bytes) and ".png" in name
    }
    files: dict[str, str | bytes] = {
        "page.html": page(study, images, folder),
        "table.md": tables.markdown(study),
        "table.csv": tables.csv(study),
        "table.tex": tables.latex(study),
        "summary.json": json.dumps(summary(study), indent=1) + "\n",
    }
    files |= fronts
    for name, contents in figures.items():
        path = name if name == MAIN_FIGURE else f"figures/{name}"
        files |= {f"{path}{suffix}": content for suffix, content in contents.items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def draw(study: ReportData) -> dict[str, dict[str, bytes]]:
    """Draw all figures for which the study has data; return their content by name and suffix."""
    from tal_bench.report.common.plot_style import rendered

    drawings = {name: make(study) for name, make in figure_makers().items()}
    return {name: rendered(drawing) for name, drawing in drawings.items() if drawing is not None}


def figure_makers() -> dict[str, Callable[[ReportData], Figure | None]]:
    """Return the function that draws each figure; a function returns None if the study has no data for it."""
    from tal_bench.report.study import accuracy_figures, cost_figures, cost_scatter, training_figures

    return {
        MAIN_FIGURE: cost_scatter.figure,
        "seeds": accuracy_figures.seeds_figure,
        "tiou": accuracy_figures.tiou_figure,
        "classes": accuracy_figures.classes_figure,
        "cost": cost_figures.cost_figure,
        "training": training_figures.training_figure,
        "tuning": training_figures.tuning_figure,
        "importances": training_figures.importances_figure,
        "slices": training_figures.slices_figure,
    }


def summary(study: ReportData) -> dict[str, Any]:
    """Return the content of `summary.json`, with mAP in percent."""
    from tal_bench.report.study import notes, tables

    return {
        "study": study.record.spec.name,
        "complete": study.complete,
        "rows": [tables.line(study, row) | {"failures": dict(row.failures)} for row in study.rows],
        "interaction": asdict(study.interaction) if study.interaction else None,
        "headline": notes.headline(study),
        "findings": notes.findings(study),
        "provenance": notes.provenance(study),
        "notes": notes.notes(study),
    }
