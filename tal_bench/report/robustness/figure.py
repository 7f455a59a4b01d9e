"""Figure of robustness: mAP on clean and corrupted videos, and relative drops per corruption."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from tal_bench.evaluation.robustness import ALL, Robustness
from tal_bench.report.common.plot_style import SMALL, TITLE_DENSITY, column_name, name, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"teacher": "#0072B2", "reference": "#E69F00", "student": "#000000", "": "#000000"}
"""Okabe and Ito's palette; clean (hollow) and corrupted (filled) are distinct in greyscale."""
COLUMN = 0.72
"""Width in inches of a corruption."""
NAMES = {
    "black-frame": "black\nframe",
    "motion-blur": "motion\nblur",
    "overexposure": "over-\nexposure",
    "packet-loss": "packet\nloss",
    "gaussian-noise": "Gaussian\nnoise *",
    "brightness": "brightness\n*",
    "dropped-steps": "dropped\nsteps",
    "feature-noise": "feature\nnoise *",
}


def robustness_figure(result: Robustness) -> Figure:
    """Draw mAP on clean and corrupted videos (left) and a heat map of relative drops (right)."""
    import seaborn

    rows, names = list(result.kinds), result.corruptions
    width = 3.9 + COLUMN * len(names)
    drawing = new_figure(width, 0.27 * len(rows) + 1.75)
    left, right = drawing.subplots(1, 2, width_ratios=(2.9, COLUMN * len(names)))
    _draw_map(left, result, rows)
    drops = np.array([[result.line(row, kind).drop for kind in names] for row in rows])
    seaborn.heatmap(
        drops,
        ax=right,
        cmap="cividis_r",
        vmin=min(0.0, float(np.nanmin(drops))),
        annot=True,
        fmt=".0f" if np.nanmax(drops) >= 10 else ".1f",
        annot_kws={"fontsize": SMALL},
        cbar=False,
        yticklabels=False,
        xticklabels=[NAMES.get(kind) or column_name(kind, COLUMN) for kind in names],
    )
    right.tick_params(labelsize=SMALL, length=0, axis="x", rotation=0)
    right.set_title("relative drop of mAP (%)", loc="left", fontsize=9)
    if names[0] == ALL:
        right.axvline(1, color="white", linewidth=5)
    for boundary in _kind_boundaries(result, rows):
        right.axhline(boundary, color="white", linewidth=4)
    level = " (feature level)" if result.level == "features" else ""
    title = name(f"Robustness{level}. {result.title}", int(width * TITLE_DENSITY))
    drawing.suptitle(title, fontsize=10, x=0.01, ha="left")
    seeds = f" and {result.seeds_text}" if result.seeds > 1 else ""
    note = f"Means over severities, shares of frames{seeds}; bars: ± standard deviation over seeds. "
    note += "*: whole videos are corrupted, else the middle of every action. "
    if result.level == "features":
        note += "Features are corrupted instead of pixels. "
    parts = (note, " · ".join(result.provenance))
    lines = [line for part in parts for line in textwrap.wrap(part, int(17 * width))]
    drawing.supxlabel("\n".join(lines), fontsize=6.5, color="0.35", x=0.01, ha="left")
    return drawing


def _kind_boundaries(result: Robustness, rows: list[str]) -> list[int]:
    kinds = [result.kinds[row] for row in rows]
    return [k for k in range(1, len(rows)) if kinds[k] != kinds[k - 1]]


def _draw_map(axes: Axes, result: Robustness, rows: list[str]) -> None:
    for index, row in enumerate(rows):
        line, colour, y = result.line(row, result.corruptions[0]), COLOURS[result.kinds[row]], index + 0.5
        axes.plot([line.map, line.clean], [y, y], color=colour, linewidth=1.0, alpha=0.5, zorder=1)
        for value, sd, face in ((line.clean, line.clean_sd, "white"), (line.map, line.map_sd, colour)):
            axes.errorbar(
                value,
                y,
                xerr=None if np.isnan(sd) else sd,
                marker="o",
                markersize=4.5,
                color=colour,
                markerfacecolor=face,
                elinewidth=1.0,
                capsize=2,
                zorder=2,
            )
    axes.set_yticks(np.arange(len(rows)) + 0.5, [name(row) for row in rows])
    axes.set_ylim(len(rows), 0)
    axes.set_title("mAP (%): ○ clean, ● corrupted", loc="left", fontsize=9)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="both", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
