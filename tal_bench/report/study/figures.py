"""Figures of a report. Files, sections of the page and captions derive from them.

A figure is one entry of `FIGURES`, in the order of its section. A plugin appends its own:

    FIGURES.append(FigureDeclaration("energy", "Cost", "Energy of each row.", draw_energy))
"""

from __future__ import annotations

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.study import pareto
from tal_bench.report.study.collect import ReportData
from tal_bench.report.study.drawings import (
    accuracy_figures,
    cost_figures,
    cost_scatter,
    learning_figure,
    training_figures,
)

SECTIONS = (
    "Accuracy",
    "All pairs",
    "Where the gains are",
    "Cost",
    "Reported in the literature",
    "Robustness",
    "Errors",
    "Training",
    "Settings",
    "Provenance",
)
"""Titles of the page's sections in their order."""


def _has_results(study: ReportData) -> bool:
    return any(row.results for row in study.rows)


def _has_trials(study: ReportData) -> bool:
    return any(row.trials for row in study.rows)


def _has_minutes(study: ReportData) -> bool:
    return any(row.minute for row in study.rows)


def _has_fronts(study: ReportData) -> bool:
    return bool(pareto.members(study))


FIGURES: list[FigureDeclaration[ReportData]] = [
    FigureDeclaration("figure", "Accuracy", "Average mAP against cost.", cost_scatter.figure, folder=""),
    FigureDeclaration(
        "pareto",
        "Accuracy",
        "Fronts of the search on validation and test data.",
        pareto.figure,
        _has_fronts,
        folder="",
    ),
    FigureDeclaration(
        "seeds",
        "Accuracy",
        "Average mAP of every seed, and paired differences with 95 % intervals.",
        accuracy_figures.seeds_figure,
        _has_results,
    ),
    FigureDeclaration(
        "tiou",
        "Where the gains are",
        "mAP and gain over none at each tIoU.",
        accuracy_figures.tiou_figure,
        _has_results,
    ),
    FigureDeclaration(
        "classes",
        "Where the gains are",
        "Gain over none per class.",
        accuracy_figures.classes_figure,
        _has_results,
    ),
    FigureDeclaration(
        "cost", "Cost", "Seconds per minute of video for each step.", cost_figures.cost_figure, _has_minutes
    ),
    FigureDeclaration(
        "learning",
        "Training",
        "Validation mAP against the cost of training.",
        learning_figure.learning_figure,
        _has_trials,
    ),
    FigureDeclaration(
        "training",
        "Training",
        "Loss on labels and validation mAP over epochs.",
        training_figures.training_figure,
    ),
    FigureDeclaration(
        "tuning", "Settings", "Validation mAP of all trials.", training_figures.tuning_figure, _has_trials
    ),
    FigureDeclaration(
        "slices",
        "Settings",
        "Validation mAP against each setting.",
        training_figures.slices_figure,
        _has_trials,
    ),
    FigureDeclaration(
        "importances",
        "Settings",
        "Importances of settings for validation mAP.",
        training_figures.importances_figure,
        _has_trials,
    ),
]
"""Figures in the order of their sections on the page."""
