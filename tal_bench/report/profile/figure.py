"""Figure of the cost of detectors: operations per part, and latency at different input lengths."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tal_bench.report.common.plot_style import RC, SMALL, name, new_figure
from tal_bench.report.profile.tables import PARTS, Record, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {
    "hallucination": ("#D55E00", "xxx"),
    "backbone": ("#0072B2", ""),
    "neck": ("#F0E442", ""),
    "heads": ("#56B4E9", "///"),
}
"""Okabe and Ito's palette; hatching distinguishes parts in greyscale."""
MARKERS = ("^", "s", "o", "D", "v", "P")
SUFFIX = "-small"
BAR, WIDTH = 0.165, 9.5


def profile_figure(records: Sequence[Record], provenance: Sequence[str]) -> Figure:
    """Draw GMACs at T as stacked bars (left), and median latency with percentiles at every length (right).

    Models of the small size have separate panels.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    sizes = [
        [r for r in records if not r["name"].endswith(SUFFIX)],
        [r for r in records if r["name"].endswith(SUFFIX)],
    ]
    groups = [group for group in sizes if group]
    heights = [BAR * len(group) + 0.45 for group in groups]
    drawing = new_figure(WIDTH, sum(heights) + 1.5)
    panels = drawing.subplots(len(groups), 2, squeeze=False, height_ratios=heights, sharey="row")
    for (left, right), group in zip(panels, groups, strict=True):
        _operations(left, group)
        _latencies(right, group)
    panels[-1, 0].set_xlabel("GMACs at T", fontsize=9)
    panels[-1, 1].set_xlabel("latency of a forward pass (ms), batch 1", fontsize=9)
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0, label=part)
        for part, (colour, hatch) in STYLES.items()
    ]
    handles += [
        Line2D([], [], color="0.25", marker=marker, linestyle="", markersize=4, label=f"{at['frames']} steps")
        for marker, at in zip(MARKERS, records[0]["lengths"], strict=False)
    ]
    drawing.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=SMALL)
    note = "Bars on the right: 5th to 95th percentile of the timed passes. Random weights."
    parts = (note, " · ".join((title(records), *provenance)))
    lines = [line for part in parts for line in textwrap.wrap(part, 170)]
    drawing.supxlabel("\n".join(lines), fontsize=6.5, color="0.35", x=0.01, ha="left")
    return drawing


def _operations(axes: Axes, group: Sequence[Record]) -> None:
    import matplotlib

    with matplotlib.rc_context(RC):
        for index, record in enumerate(group):
            left = 0.0
            for part in PARTS if record["parts"] else ():
                colour, hatch = STYLES[part]
                width = record["parts"][part]["gmacs"]
                axes.barh(index, width, 0.78, left=left, color=colour, hatch=hatch, linewidth=0)
                left += width
            if not record["parts"]:
                axes.barh(index, record["gmacs"], 0.78, color="0.6", linewidth=0)
    axes.set_yticks(range(len(group)), [name(record["name"]) for record in group])
    axes.set_ylim(len(group) - 0.4, -0.6)
    _plain(axes)


def _latencies(axes: Axes, group: Sequence[Record]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for index, record in enumerate(group):
        medians = [at["latency_ms"]["median"] for at in record["lengths"]]
        axes.plot(medians, [index] * len(medians), color="0.75", linewidth=0.8, zorder=1)
        for marker, at in zip(MARKERS, record["lengths"], strict=False):
            ms = at["latency_ms"]
            axes.plot([ms["p5"], ms["p95"]], [index, index], color="0.25", linewidth=2.2, alpha=0.4, zorder=2)
            axes.plot(ms["median"], index, marker=marker, markersize=3.2, color="0.2", zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=6.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="both", color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
