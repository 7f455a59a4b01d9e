"""Figure of validation mAP against the cost of training: which row learns faster, and which ends higher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.plot_style import WIDTH, caption, new_figure, plain
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.drawings.accuracy_figures import legend_of_rows, line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_figure(study: ReportData) -> Figure | None:
    """Draw validation mAP over the multiply-accumulates of training; None if no row has both."""
    curves = {row.name: table for row in study.rows if not (table := learning_curve(row)).empty}
    if not curves:
        return None
    styles = line_styles(study.rows)
    drawing = new_figure(WIDTH, 4.3)
    axes = drawing.subplots()
    for row, table in curves.items():
        line = axes.plot(table["gmacs"], table["mean"], **styles[row])
        low, high = table["mean"] - table["sd"], table["mean"] + table["sd"]
        band = axes.fill_between(
            table["gmacs"], low, high, color=styles[row]["color"], alpha=0.12, linewidth=0
        )
        mean, cost = table["mean"].iloc[-1], table["gmacs"].iloc[-1]
        mark([line, band], row, f"{row}: validation mAP {mean:.1f} at the end, {cost:.0f} GMACs per video")
    axes.set(
        xlabel="training cost (GMACs per training video, teachers included)", ylabel="validation mAP (%)"
    )
    axes.set_xlim(left=0)
    plain(axes)
    legend_of_rows(drawing, list(curves), styles)
    seeds = max(int(table["seeds"].max()) for table in curves.values())
    lines = [
        "Settings chosen on validation; "
        + (f"mean over up to {seeds} seeds, band: ± standard deviation." if seeds > 1 else "one seed."),
        "A training step costs three forward passes of the student and one of each teacher. The training of "
        "the teachers themselves is not included.",
    ]
    caption(drawing, f"{notes.title(study)}: accuracy against training cost", lines, notes.source(study))
    return drawing


def learning_curve(row: Row) -> pd.DataFrame:
    """Return gmacs, mean, sd and seeds of the validation mAP of the chosen settings, by evaluated epoch."""
    cost = row.record.training_gmacs
    points = [
        (cost * epoch.epoch / run.spec.train.total_epochs, epoch.validation_map)
        for run in row.chosen
        if cost is not None
        for epoch in run.history
        if epoch.validation_map is not None
    ]
    table = pd.DataFrame(points, columns=["gmacs", "map"])
    found = table.groupby("gmacs")["map"].agg(mean="mean", sd="std", seeds="count").reset_index()
    return found.fillna({"sd": 0.0})


def _has_trials(study: ReportData) -> bool:
    return any(row.chosen and row.record.training_gmacs for row in study.rows)


FIGURES = (
    FigureDeclaration(
        "learning", "Training", "Validation mAP against the cost of training.", learning_figure, _has_trials
    ),
)
