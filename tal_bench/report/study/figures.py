"""Figures of a report. Files, sections of the page and captions derive from them.

A figure is declared beside its drawing: every module of `drawings` has a tuple `FIGURES`. A plugin appends
its own to the list of all figures:

    FIGURES.append(FigureDeclaration("energy", "Cost", "Energy of each row.", draw_energy))
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.study import pareto
from tal_bench.report.study.collect import ReportData

SECTIONS = (
    "Accuracy",
    "All pairs",
    "Where the gains are",
    "Cost",
    "Reported in the literature",
    "Robustness",
    "Errors",
    "Test videos",
    "Training",
    "Settings",
    "Provenance",
)
"""Titles of the page's sections in their order."""


LISTED_FIRST = ("cost_scatter", "accuracy_figures", "cost_figures", "training_figures")
"""Modules of `drawings` whose figures come first in their sections, in this order; others follow by name."""


def _declared() -> list[FigureDeclaration[ReportData]]:
    """Return the figures of the modules of `drawings`; fronts of searches come after the first module."""
    folder = Path(__file__).parent / "drawings"
    others = sorted({module.name for module in pkgutil.iter_modules([str(folder)])} - set(LISTED_FIRST))
    modules = [
        importlib.import_module(f"tal_bench.report.study.drawings.{name}")
        for name in (*LISTED_FIRST, *others)
    ]
    first, *rest = (list(module.FIGURES) for module in modules)
    return [*first, *pareto.FIGURES, *(figure for figures in rest for figure in figures)]


FIGURES: list[FigureDeclaration[ReportData]] = _declared()
"""Figures in the order of their sections on the page."""
