"""A picture of robustness: what every row keeps, and which corruption takes how much of it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from tal_bench.evaluation.robustness import ALL, Robustness
from tal_bench.report.common.plot_style import SMALL, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"teacher": "#0072B2", "reference": "#E69F00", "student": "#000000", "": "#000000"}
"""Okabe and Ito's; hollow and filled markers tell clean from corrupted, in grey too."""
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


def robustness_figure(found: Robustness) -> Figure:
    """Left: mAP without corruption and under it, with what lies between; right: relative drops in colour."""
    import seaborn

    rows, names = list(found.kinds), found.corruptions
    wide = 3.9 + 0.72 * len(names)
    drawing = new_figure(wide, 0.27 * len(rows) + 1.75)
    left, right = drawing.subplots(1, 2, width_ratios=(2.9, 0.72 * len(names)))
    _kept(left, found, rows)
    drops = np.array([[found.line(row, name).drop for name in names] for row in rows])
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
        xticklabels=[NAMES.get(name, name) for name in names],
    )
    right.tick_params(labelsize=SMALL, length=0, axis="x", rotation=0)
    right.set_title("relative drop of mAP (%)", loc="left", fontsize=9)
    if names[0] == ALL:
        right.axvline(1, color="white", linewidth=5)
    for place in _borders(found, rows):
        right.axhline(place, color="white", linewidth=4)
    level = " (feature level)" if found.level == "features" else ""
    drawing.suptitle(f"Robustness{level}. {found.title}", fontsize=10, x=0.01, ha="left")
    seeds = f" and {found.seeds} seeds" if found.seeds > 1 else ""
    note = f"Means over severities, shares of frames{seeds}; bars: ± standard deviation over seeds. "
    note += "* hits whole videos, the others the middle of every action. "
    if found.level == "features":
        note += "Features were corrupted, not pixels. "
    parts = (note, " · ".join(found.provenance))
    lines = [line for part in parts for line in textwrap.wrap(part, int(17 * wide))]
    drawing.supxlabel("\n".join(lines), fontsize=6.5, color="0.35", x=0.01, ha="left")
    return drawing


def _borders(found: Robustness, rows: list[str]) -> list[int]:
    kinds = [found.kinds[row] for row in rows]
    return [k for k in range(1, len(rows)) if kinds[k] != kinds[k - 1]]


def _kept(axes: Axes, found: Robustness, rows: list[str]) -> None:
    for place, row in enumerate(rows):
        line, colour, at = found.line(row, found.corruptions[0]), COLOURS[found.kinds[row]], place + 0.5
        axes.plot([line.map, line.clean], [at, at], color=colour, linewidth=1.0, alpha=0.5, zorder=1)
        for value, sd, face in ((line.clean, line.clean_sd, "white"), (line.map, line.map_sd, colour)):
            axes.errorbar(
                value,
                at,
                xerr=None if np.isnan(sd) else sd,
                marker="o",
                markersize=4.5,
                color=colour,
                markerfacecolor=face,
                elinewidth=1.0,
                capsize=2,
                zorder=2,
            )
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.set_ylim(len(rows), 0)
    axes.set_title("mAP (%): ○ clean, ● corrupted", loc="left", fontsize=9)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="both", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
