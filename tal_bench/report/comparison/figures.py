"""Figures of a comparison: mAP of every row on each dataset, and mean ranks."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.plot_style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    SMALL,
    caption,
    name,
    new_figure,
    plain,
)
from tal_bench.report.comparison.data import ComparedDataset, StudyComparison
from tal_bench.report.comparison.sentences import source, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {
    "teacher": (GREY, "s"),
    "reference": (ORANGE, "D"),
    "student": (BLACK, "o"),
    "detections": (BLUE, "^"),
}
"""Colour and marker of each kind of row."""
PANEL = 2.7
"""Width in inches of the panel of a dataset."""


def accuracy_figure(comparison: StudyComparison) -> Figure | None:
    """Draw the average mAP of every row on each dataset, with the letters of compared rows; None if empty."""
    rows = _order(comparison)
    if not rows:
        return None
    datasets = comparison.datasets
    drawing = new_figure(max(1.8 + PANEL * len(datasets), 6.5), 0.27 * len(rows) + 1.8)
    panels = drawing.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
    for axes, dataset in zip(panels, datasets, strict=True):
        _draw_dataset(axes, dataset, rows)
    panels[0].set_yticks(range(len(rows)), [name(row) for row in rows])
    for row, text in zip(rows, panels[0].get_yticklabels(), strict=True):
        mark(text, row)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    lines = [
        "Mean over seeds; bar: ± standard deviation. Circles: students, squares: teachers, diamonds: "
        "references, triangles: files of detections. Rows with a common letter cannot be told apart by the "
        "simultaneous 95 % interval of their difference."
    ]
    caption(drawing, title(comparison), lines, source(comparison))
    return drawing


def _order(comparison: StudyComparison) -> list[str]:
    """Return rows with results: ranked ones, other compared ones, and those that are shown alone."""
    means: dict[str, list[float]] = {}
    for dataset in comparison.datasets:
        for row in dataset.rows:
            if row.mean is not None:
                means.setdefault(row.name, []).append(row.mean)
    compared = {row for dataset in comparison.datasets for row in dataset.compared}
    others = sorted(means, key=lambda row: (row not in compared, -fmean(means[row])))
    return list(dict.fromkeys([*comparison.ranks, *others]))


def _draw_dataset(axes: Axes, dataset: ComparedDataset, rows: list[str]) -> None:
    marks = dataset.letters
    for row in dataset.rows:
        if row.mean is None:
            continue
        colour, marker = STYLES[row.kind]
        y = rows.index(row.name)
        bar = axes.errorbar(row.mean, y, xerr=row.sd, color=colour, marker=marker, markersize=4.5, capsize=2)
        spread = f" ± {row.sd:.1f}" if row.sd is not None else ""
        mark(bar, row.name, f"{row.name} on {dataset.name}: average mAP {row.mean:.1f}{spread}")
        letters = axes.annotate(
            marks.get(row.name, ""),
            (1.0, y),
            (3, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
        mark(letters, row.name)
    axes.set_title(name(dataset.name, 26), loc="left", fontsize=9)
    axes.set_xlabel("average mAP (%)")
    plain(axes)
    axes.tick_params(axis="y", length=0)


def ranks_figure(comparison: StudyComparison) -> Figure | None:
    """Draw the mean rank of every ranked row with its interval, and its rank on each dataset."""
    from matplotlib.ticker import MaxNLocator

    ranks = comparison.ranks
    if not ranks:
        return None
    drawing = new_figure(6.5, 0.27 * len(ranks) + 1.6)
    axes = drawing.subplots()
    for y, (row, rank) in enumerate(ranks.items()):
        line = axes.plot([rank.low, rank.high], [y, y], color=BLACK, linewidth=1.2, zorder=1)
        dot = axes.plot(rank.mean, y, color=BLACK, marker="o", markersize=5, zorder=3)
        mark([line, dot], row, f"{row}: mean rank {rank.mean:.1f} [{rank.low:.1f}, {rank.high:.1f}]")
        if len(rank.ranks) > 1:
            spots = np.array(rank.ranks)
            mark(axes.plot(spots, np.full(len(spots), y), "|", color=BLUE, markersize=9, zorder=2), row)
    axes.set_yticks(range(len(ranks)), [name(row) for row in ranks])
    for row, text in zip(ranks, axes.get_yticklabels(), strict=True):
        mark(text, row)
    axes.set_ylim(len(ranks) - 0.4, -0.6)
    axes.set_xlim(0.8, len(ranks) + 0.2)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rank by average mAP, 1 is best")
    plain(axes)
    axes.tick_params(axis="y", length=0)
    several = len(comparison.datasets) > 1
    lines = ["Dot: mean over datasets; vertical marks: rank on each dataset." if several else "Dot: rank."]
    lines.append("Line: 95 % interval from the bootstrap over test videos and seeds.")
    caption(drawing, f"{title(comparison)}: ranks", lines, source(comparison))
    return drawing


def _has_ranks(comparison: StudyComparison) -> bool:
    return bool(comparison.ranks)


FIGURES: list[FigureDeclaration[StudyComparison]] = [
    FigureDeclaration(
        "accuracy",
        "Accuracy",
        "Average mAP; rows with a common letter cannot be told apart.",
        accuracy_figure,
    ),
    FigureDeclaration("ranks", "Ranks", "Ranks with 95 % intervals.", ranks_figure, _has_ranks),
]
"""Figures of a comparison, in the order of the page."""
