"""Figures of accuracy per tIoU threshold, per class and per seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tal_bench.report.common import formats
from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.plot_style import (
    BLACK,
    GREY,
    LINES,
    SMALL,
    TINY,
    WIDTH,
    caption,
    column_name,
    name,
    new_figure,
    plain,
)
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.drawings.cost_scatter import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 0.95
"""Width in inches of a row in the figure of classes."""
SHOWN_CLASSES = 24
"""Maximum number of classes in the figure; if there are more, those with the largest gains and losses."""
LINE = {"linewidth": 1.4, "markersize": 4.5}
LEGEND_MARGIN, LEGEND_LINE = 0.75, 0.17
"""Inches of a figure's height beside the legend of rows, and for each row of it."""


def line_styles(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return the line style of each row: `none` black and hollow, teachers and references grey and thin."""
    styles: dict[str, dict[str, Any]] = {
        "none": {"color": BLACK, "marker": "o", "markerfacecolor": "white", "linestyle": "-", **LINE}
    }
    students = [row.name for row in rows if row.record.kind == "student" and row.name != "none"]
    others = [row.name for row in rows if row.record.kind != "student"]
    for index, row in enumerate(students):
        color = LINES[index % len(LINES)][0]
        _, marker, dashes = LINES[(index + index // len(LINES)) % len(LINES)]  # another pair in each round
        styles[row] = {"color": color, "marker": marker, "linestyle": dashes, **LINE}
    for index, row in enumerate(others):
        marker = "sv^<>dp*hX"[index % 10]
        styles[row] = {"color": GREY, "marker": marker, "linestyle": "-", "linewidth": 0.9, "markersize": 4}
    return styles


def legend_of_rows(drawing: Figure, rows: Sequence[str], styles: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a legend of rows right of the panels, and enlarge a figure in which it has no room.

    The legend of matplotlib itself leaves out names that begin with `_`.
    """
    from matplotlib.lines import Line2D

    drawing.set_figheight(max(drawing.get_figheight(), LEGEND_MARGIN + LEGEND_LINE * len(rows)))
    legend = drawing.legend(
        [Line2D([], [], **styles[row]) for row in rows],
        [name(row) for row in rows],
        loc="outside right upper",
        frameon=False,
        fontsize=SMALL,
        handlelength=3.2,
    )
    for row, handle, text in zip(rows, legend.legend_handles, legend.get_texts(), strict=True):
        mark([handle, text], row)


def tiou_figure(study: ReportData) -> Figure | None:
    """Draw mAP and the differences to `none` at each tIoU; None if there are no results."""
    rows = [row for row in study.rows if row.mean() is not None]
    if not rows:
        return None
    compared = [row for row in study.students() if row.at_tiou]
    drawing = new_figure(WIDTH, 4.3)
    left, right = drawing.subplots(1, 2, width_ratios=(1, 1.15))
    styles, levels = line_styles(study.rows), study.record.tiou
    ordered = sorted(rows, key=lambda row: -(row.mean(study.metrics[-1]) or 0.0))
    for row in ordered:
        means = [row.mean(m) for m in study.metrics]
        line = left.plot(levels, means, **styles[row.name])
        mark(line, row.name, f"{row.name}: mAP {_at_levels(levels, [formats.number(m) for m in means])}")
    left.set(xlabel="tIoU", ylabel="mAP (%)", xticks=levels)
    left.set_title("mAP", loc="left", fontsize=9)
    _differences(right, compared, levels, styles)
    for axes in (left, right):
        plain(axes)
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
    legend_of_rows(drawing, [row.name for row in ordered], styles)
    lines = ["Means over seeds; the legend is sorted by mAP at the highest threshold."]
    if compared:
        lines.append(
            "Bars: 95 % intervals, paired by seed and video; rows are shifted horizontally for legibility."
        )
    caption(drawing, f"{notes.title(study)}: gains by tIoU", lines, notes.source(study))
    return drawing


def _differences(axes: Axes, rows: Sequence[Row], levels: Sequence[float], styles: dict[str, Any]) -> None:
    axes.axhline(0, color=BLACK, linewidth=0.9)
    step = min(np.diff(levels)) if len(levels) > 1 else 0.1
    for index, row in enumerate(rows):
        shift = 0.55 * step * ((index + 0.5) / len(rows) - 0.5)
        y = np.array([d.estimate for d in row.at_tiou])
        ends = np.array([(d.estimate - d.low, d.high - d.estimate) for d in row.at_tiou]).T
        bars = axes.errorbar(
            np.asarray(levels) + shift, y, yerr=ends, capsize=2, elinewidth=0.9, **styles[row.name]
        )
        values = _at_levels(levels, [formats.interval(d) for d in row.at_tiou])
        mark(bars, row.name, f"{row.name} − none: {values}")
    axes.set(xlabel="tIoU", ylabel="mAP points")
    axes.set_title("Difference to none" if rows else "No row to compare with none", loc="left", fontsize=9)


def _at_levels(levels: Sequence[float], values: Sequence[str]) -> str:
    return " · ".join(f"{value} at {level:g}" for level, value in zip(levels, values, strict=True))


def classes_figure(study: ReportData) -> Figure | None:
    """Draw the difference in average precision to `none` per class; None without `none` or other students."""
    table = class_differences(study)
    if table.empty:
        return None
    count = table.shape[1]
    best = max((r for r in study.students() if r.name in table.index), key=lambda row: row.mean() or 0.0)
    gains = table.loc[best.name].to_dict()
    order = sorted(table.columns, key=lambda label: -float(gains[label]))
    if count > SHOWN_CLASSES:
        half = SHOWN_CLASSES // 2
        order = [*order[:half], *order[-half:]]
    shown = table[order].T
    heads = [column_name(row, COLUMN) for row in shown.columns]
    height = 0.25 * len(shown) + 2.0 + 0.13 * max(head.count("\n") for head in heads)
    drawing = new_figure(max(2.6 + COLUMN * shown.shape[1], 7.0), height)
    axes = drawing.subplots()
    _heat(axes, shown)
    base = {n: v for row in study.students() if row.name == "none" for n, v in row.per_class.items()}
    axes.set_xticks(np.arange(len(heads)) + 0.5, heads)
    axes.set_yticks(np.arange(len(shown)) + 0.5, [f"{name(c)}  {base[c]:.0f}" for c in shown.index])
    lines = [
        "Difference in average precision (points, mean over tIoU and seeds) to none; the number after each "
        f"class is the average precision of none. Sorted by {name(best.name)}. Classes have few ground "
        "truths, so no intervals are given."
    ]
    if count > SHOWN_CLASSES:
        lines.append(f"{len(shown)} of {count} classes are shown, those with the largest and smallest gains.")
    caption(drawing, f"{notes.title(study)}: difference per class", lines, notes.source(study))
    return drawing


def _heat(axes: Axes, table: pd.DataFrame) -> None:
    import seaborn

    reach = max(float(np.nanmax(np.abs(table.to_numpy()))), 1.0)
    seaborn.heatmap(
        table,
        ax=axes,
        cmap="PuOr_r",
        center=0.0,
        vmin=-reach,
        vmax=reach,
        annot=table.map(lambda value: formats.signed(value, 0)),  # signs make it readable without colour
        fmt="",
        annot_kws={"fontsize": SMALL},
        cbar=False,
        linewidths=0.6,
        xticklabels=False,
        yticklabels=False,
    )
    axes.set(xlabel="", ylabel="")
    axes.xaxis.tick_top()
    axes.tick_params(labelsize=SMALL, length=0)
    axes.tick_params(axis="x", rotation=0)
    axes.tick_params(axis="y", rotation=0)


def class_differences(study: ReportData) -> pd.DataFrame:
    """Return students × classes: difference in mean average precision to `none`, in points."""
    means = {row.name: row.per_class for row in study.students()}
    base = means.get("none")
    if not base:
        return pd.DataFrame()
    others = {name: values for name, values in means.items() if name != "none" and values}
    table = pd.DataFrame({name: pd.Series(values) for name, values in others.items()}, dtype=float)
    return table.sub(pd.Series(base, dtype=float), axis=0).T


def seeds_figure(study: ReportData) -> Figure | None:
    """Draw the average mAP of every seed, and the differences to `none` and `self` with intervals."""
    rows = [row for row in study.rows if row.mean() is not None]
    if not rows:
        return None
    drawing = new_figure(WIDTH, 0.3 * len(rows) + 1.9)
    left, right = drawing.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
    _seeds(left, rows)
    _effects(right, rows)
    left.set_yticks(range(len(rows)), [name(row.name) for row in rows])
    for row, text in zip(rows, left.get_yticklabels(), strict=True):
        mark(text, row.name)
    left.set_ylim(len(rows) - 0.4, -0.6)
    for axes in (left, right):
        plain(axes)
        axes.tick_params(axis="y", length=0)
    count = max(len(row.results) for row in rows)
    lines = [f"Left: one marker per seed (at most {count}); bar: mean." if count > 1 else "One seed."]
    if any(row.differences for row in rows):
        lines.append(
            "Right: 95 % intervals that include the variance of seeds and of videos, paired by both; "
            "intervals that include 0 show no clear difference."
        )
    caption(drawing, f"{notes.title(study)}: seeds and differences", lines, notes.source(study))
    return drawing


def _seeds(axes: Axes, rows: Sequence[Row]) -> None:
    for index, row in enumerate(rows):
        mean = row.mean() or 0.0
        bar = axes.vlines(mean, index - 0.3, index + 0.3, color="0.35", linewidth=1.4, zorder=1)
        mark(bar, row.name, f"{row.name}: mean {mean:.1f}")
        color, marker, _ = STYLES[row.record.kind]
        for result in row.results:
            if (value := result.metrics.get("map_avg")) is None:
                continue
            dot = axes.plot(value, index, marker, color=color, ms=4.5, mew=0, alpha=0.8)
            mark(dot, row.name, f"{row.name}, seed {result.spec.seed}: average mAP {value:.1f}")
    axes.set(xlabel="average mAP (%)", ylabel="")
    axes.set_title("Seeds", loc="left", fontsize=9)


def _effects(axes: Axes, rows: Sequence[Row]) -> None:
    axes.axvline(0, color=BLACK, linewidth=0.9)
    for base, color, marker, shift in (("none", BLACK, "o", -0.14), ("self", LINES[0][0], "D", 0.14)):
        label = f"to {base}"
        for index, row in enumerate(rows):
            if (found := row.differences.get(base)) is None:
                continue
            bar = axes.errorbar(
                found.estimate,
                index + shift,
                xerr=[[found.estimate - found.low], [found.high - found.estimate]],
                color=color,
                marker=marker,
                markersize=4,
                linestyle="none",
                capsize=2,
                elinewidth=1.0,
                label=label,
            )
            mark(bar, row.name, f"{row.name} − {base}: {formats.interval(found)}")
            label = ""  # one entry in the legend
    axes.set_xlabel("mAP points")
    axes.set_title("Paired differences", loc="left", fontsize=9)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=2,
            frameon=False,
            fontsize=SMALL,
            borderpad=0.1,
        )
    axes.tick_params(labelsize=TINY)


def _has_results(study: ReportData) -> bool:
    return any(row.results for row in study.rows)


FIGURES = (
    FigureDeclaration(
        "seeds",
        "Accuracy",
        "Average mAP of every seed, and paired differences with 95 % intervals.",
        seeds_figure,
        _has_results,
    ),
    FigureDeclaration(
        "tiou", "Where the gains are", "mAP and gain over none at each tIoU.", tiou_figure, _has_results
    ),
    FigureDeclaration(
        "classes", "Where the gains are", "Gain over none per class.", classes_figure, _has_results
    ),
)
