"""Figures of a diagnosis: false-positive profile, mAP lost to errors, sensitivity to ground truths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tal_bench.evaluation.diagnosis import ERRORS
from tal_bench.report.common import plot_style
from tal_bench.report.common.plot_style import RC, SMALL, name, new_figure
from tal_bench.report.diagnosis.summary import AVERAGE, MISSED, DiagnosisReport
from tal_bench.system.text import counted

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette; hatching distinguishes categories in greyscale.
STYLES = {
    "true positive": ("#0072B2", ""),
    "double detection": ("#56B4E9", "///"),
    "wrong label": ("#D55E00", "xxx"),
    "localization": ("#E69F00", ""),
    "confusion": ("#CC79A7", "..."),
    "background": ("#E5E5E5", ""),
}
UNITS = {
    "length": "length (s)",
    "coverage": "coverage (%)",
    "instances": "instances of the class in the video",
}
PANEL_TITLE = 28
"""Maximum length of the title of a panel."""
WIDE = 8.0
"""Width in inches above which a legend of six entries fits on one line."""


def legend_above(drawing: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Draw a legend on one line (two in a narrow figure) between the title and the panels."""
    plot_style.legend_above(drawing, handles, names, 6 if drawing.get_figwidth() > WIDE else 3)


def caption(
    drawing: Figure, report: DiagnosisReport, title: str, notes: Sequence[str], *, legend: bool = False
) -> None:
    """Draw title, notes and provenance; `legend` leaves space for `legend_above`."""
    space = "" if not legend else "\n" if drawing.get_figwidth() > WIDE else "\n\n"
    title = f"{title} – {report.source.title}"
    plot_style.caption(drawing, title, notes, report.source.provenance, space=space)


def averages_note(report: DiagnosisReport) -> str:
    """Return a sentence on the thresholds and seeds of the means."""
    seeds = report.videos.groupby("row")["seed"].nunique()
    levels = report.source.thresholds
    tiou = f"tIoU {levels[0]:g} to {levels[-1]:g}" if len(levels) > 1 else f"tIoU {levels[0]:g}"
    over = f" and {counted(seeds, 'seed')}" if seeds.max() > 1 else ""
    return f"Means over {tiou}{over}."


def profile_figure(report: DiagnosisReport) -> Figure:
    """Draw the categories of the best G detections, the next G, and so on, in a panel per row."""
    rows = report.row_names
    columns = min(4, len(rows))
    height = 2.0 * -(-len(rows) // columns) + 1.5
    drawing = new_figure(max(2.6 * columns, 5.4), height)
    panels = drawing.subplots(-(-len(rows) // columns), columns, sharex=True, sharey=True, squeeze=False)
    for axes, row in zip(panels.flat, rows, strict=False):
        _stacked(axes, report.shares(row))
        axes.set_title(name(row, PANEL_TITLE), loc="left", fontsize=9)
    for axes in panels.flat[len(rows) :]:
        axes.set_axis_off()
    drawing.supylabel("share of detections (%)", fontsize=9)
    legend_above(drawing, *panels[0, 0].get_legend_handles_labels())
    notes = [
        "Bar k: detections of rank (k − 1)·G + 1 to k·G of each class with G ground truths.",
        averages_note(report),
    ]
    caption(drawing, report, "False-positive profile", notes, legend=True)
    return drawing


def _stacked(axes: Axes, table: pd.DataFrame) -> None:
    import matplotlib

    bottom = np.zeros(len(table))
    with matplotlib.rc_context(RC):
        for category, (color, hatch) in STYLES.items():
            height = table[category].fillna(0).to_numpy()
            axes.bar(table.index, height, 0.86, bottom, color=color, hatch=hatch, linewidth=0, label=category)
            bottom += height
    axes.set(ylim=(0, 100), xticks=[1, 4, 7, 10], xticklabels=["1G", "4G", "7G", "10G"])
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def gains_figure(report: DiagnosisReport) -> Figure:
    """Draw the mAP that each row gains by removing errors, in a panel per type of error."""
    rows = report.row_names
    kinds = [*ERRORS, MISSED]
    drawing = new_figure(10.5, 0.24 * len(rows) + 2.3)
    panels = drawing.subplots(1, len(kinds), sharey=True)
    for axes, kind in zip(panels, kinds, strict=True):
        _dots(axes, report, kind, rows)
        title = kind if kind != MISSED else "never found"
        axes.set_title(title, loc="left", fontsize=9)
    means = report.gains[report.gains["what"] == AVERAGE].groupby("row")["points"].mean()
    panels[0].set_yticks(range(len(rows)), [f"{name(row)}  {means[row]:.1f}" for row in rows])
    notes = [
        "Points of average mAP gained by removing the detections of one type of error; right: points lost "
        "because no detection finds the ground truth. Numbers after names: average mAP.",
        f"Bars: ± standard deviation over seeds. Dotted: {report.against}. {averages_note(report)}",
    ]
    caption(drawing, report, "mAP lost to each type of error", notes)
    return drawing


def _dots(axes: Axes, report: DiagnosisReport, kind: str, rows: Sequence[str]) -> None:
    import seaborn

    part = report.gains[report.gains["what"] == kind]
    seaborn.pointplot(
        part,
        x="points",
        y="row",
        order=list(rows),
        errorbar="sd" if part["seed"].nunique() > 1 else None,
        linestyle="none",
        color=STYLES.get(kind, ("#000000", ""))[0] if kind != "background" else "0.45",
        markersize=4,
        err_kws={"linewidth": 1.2},
        ax=axes,
    )
    axes.axvline(part[part["row"] == report.against]["points"].mean(), color="0.4", lw=0.8, ls=":", zorder=0)
    axes.set(xlabel="", ylabel="")
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    axes.tick_params(labelsize=SMALL)
    axes.grid(True, axis="y", color="0.92", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def groups_figure(report: DiagnosisReport) -> Figure:
    """Draw heat maps (rows × bins) of normalised mAP and of the share of missed ground truths."""
    rows = report.row_names
    counts = report.groups.drop_duplicates(["characteristic", "bin"])
    drawing = new_figure(11.0, 2 * (0.26 * len(rows) + 0.9) + 1.2)
    panels = drawing.subplots(2, 1, sharex=True)
    for axes, value, title, colors in (
        (panels[0], "map_n", "average mAP_N (%)", "cividis"),
        (panels[1], "missed", "ground truths missed (%)", "cividis_r"),
    ):
        _heat(axes, report.group_means(value).T, colors)
        axes.set_title(title, loc="left", fontsize=9)
    labels = [
        _tick(str(characteristic), str(bin_), int(truths))
        for characteristic, bin_, truths in zip(
            counts["characteristic"], counts["bin"], counts["truths"], strict=True
        )
    ]
    panels[1].set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=0, fontsize=SMALL)
    sources = ", ".join(f"{bins.characteristic}: {_source(bins.source)}" for bins in report.bins)
    notes = [
        "mAP_N: precision normalised to the same number of ground truths per class and bin. Missed: not "
        "found by detections with a normalised precision above 5 %.",
        f"Bins – {sources}. {averages_note(report)}",
    ]
    caption(drawing, report, "Sensitivity and false negatives", notes)
    return drawing


def _source(bins: str) -> str:
    return "quantiles of the data" if bins == "quantiles" else f"DETAD's for {bins}"


def _tick(characteristic: str, bin_: str, truths: int) -> str:
    size, _, span = bin_.partition(" (")
    span = span.rstrip(")% s")  # units are in the headings
    return f"all\n\n({truths})" if characteristic == "all" else f"{size}\n{span}\n({truths})"


def _heat(axes: Axes, table: pd.DataFrame, colors: str) -> None:
    import seaborn

    seaborn.heatmap(
        table.to_numpy(),
        ax=axes,
        cmap=colors,
        annot=True,
        fmt=".0f",
        annot_kws={"fontsize": SMALL},
        cbar=False,
        yticklabels=[name(row) for row in table.index],
        xticklabels=False,
    )
    groups = table.columns.get_level_values(0).tolist()
    for boundary in (k for k in range(1, len(groups)) if groups[k] != groups[k - 1]):
        axes.axvline(boundary, color="white", linewidth=5)
    for group in dict.fromkeys(groups[1:]):
        center = groups.index(group) + groups.count(group) / 2
        axes.text(center, -0.15, UNITS.get(group, group), ha="center", va="bottom", fontsize=SMALL)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(labelsize=SMALL, length=0)
    axes.tick_params(axis="y", rotation=0)
