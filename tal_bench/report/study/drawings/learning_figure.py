"""Figure of validation mAP against the cost of training: which row learns faster, and which ends higher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from tal_bench.report.common.plot_style import SMALL, WIDTH, caption, new_figure, plain
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.drawings.accuracy_figures import line_styles

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
    for name, table in curves.items():
        axes.plot(table["gmacs"], table["mean"], label=name, **styles[name])
        low, high = table["mean"] - table["sd"], table["mean"] + table["sd"]
        axes.fill_between(table["gmacs"], low, high, color=styles[name]["color"], alpha=0.12, linewidth=0)
    axes.set(
        xlabel="training cost (GMACs per training video, teachers included)", ylabel="validation mAP (%)"
    )
    axes.set_xlim(left=0)
    plain(axes)
    drawing.legend(loc="outside right upper", frameon=False, fontsize=SMALL, handlelength=3.2)
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
