"""Tables and figures of a study, from its JSON files alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tal_bench.report.study.collect import Study

__all__ = ["draw", "figure_makers", "summary", "write_report"]

FIRST = "figure"
"""The figure that stands beside the tables: mAP against cost."""


def write_report(folder: Path, study: Study | None = None) -> list[Path]:
    """Write `page.html`, `table.md`, `.csv` and `.tex`, `summary.json`, `figure.png` and `.svg`, `figures/`.

    Of a study with several objectives also `pareto.md`, `.csv`, `.png` and `.svg`. Works on an unfinished
    study, and gives the same files from the same results.

    Args:
        folder: of a study.
        study: as `collect` gave it; collected when none. Its intervals are what takes time: about a second
            per final run on 200 videos.

    Returns:
        The files written.

    Raises:
        InputError: there is no study, one of its files is not what it should be, or it cannot be written.
    """
    from tal_bench.report.study import pareto, tables
    from tal_bench.report.study.collect import collect
    from tal_bench.report.study.page import page
    from tal_bench.system.files import write_atomically

    study = study or collect(folder)
    drawn, fronts = draw(study), pareto.files(study)
    shown = {name: found[".png"] for name, found in drawn.items()}
    shown |= {
        name.removesuffix(".png"): x for name, x in fronts.items() if isinstance(x, bytes) and ".png" in name
    }
    files: dict[str, str | bytes] = {
        "page.html": page(study, shown, folder),
        "table.md": tables.markdown(study),
        "table.csv": tables.csv(study),
        "table.tex": tables.latex(study),
        "summary.json": json.dumps(summary(study), indent=1) + "\n",
    }
    files |= fronts
    for name, found in drawn.items():
        place = name if name == FIRST else f"figures/{name}"
        files |= {f"{place}{suffix}": content for suffix, content in found.items()}
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def draw(study: Study) -> dict[str, dict[str, bytes]]:
    """Every figure that the study has data for: name to suffix (`.png`, `.svg`) to content."""
    from tal_bench.report.common.plot_style import rendered

    drawings = {name: make(study) for name, make in figure_makers().items()}
    return {name: rendered(drawing) for name, drawing in drawings.items() if drawing is not None}


def figure_makers() -> dict[str, Callable[[Study], Figure | None]]:
    """Name of a figure to the function that draws it, or nothing where the study has no data for it."""
    from tal_bench.report.study import (
        accuracy_figures as figures_accuracy,
    )
    from tal_bench.report.study import (
        cost_figures as figures_cost,
    )
    from tal_bench.report.study import (
        cost_scatter as figures,
    )
    from tal_bench.report.study import (
        training_figures as figures_training,
    )

    return {
        FIRST: figures.figure,
        "seeds": figures_accuracy.seeds_figure,
        "tiou": figures_accuracy.tiou_figure,
        "classes": figures_accuracy.classes_figure,
        "cost": figures_cost.cost_figure,
        "training": figures_training.training_figure,
        "tuning": figures_training.tuning_figure,
        "importances": figures_training.importances_figure,
        "slices": figures_training.slices_figure,
    }


def summary(study: Study) -> dict[str, Any]:
    """The report as plain data, mAP in percent."""
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
