"""Figure of the cost of one minute of video with one stacked bar per pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tal_bench.report.common.plot_style import name
from tal_bench.system.fonts import image_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = {
    "decode": ("decoding", "#999999"),
    "flow": ("optical flow", "#D55E00"),
    "backbone/rgb": ("RGB network", "#0072B2"),
    "backbone/flow": ("flow network", "#56B4E9"),
    "detector": ("detector", "#009E73"),
    "post-processing": ("NMS", "#F0E442"),
}
"""Name and colour (Okabe and Ito's palette) of each step."""
FLOWS = {"": "RGB only", "dis": "DIS", "farneback": "Farneback", "tvl1": "TV-L1"}
FORMATS = (".png", ".svg", ".pdf")
MAX_RELATIVE_LENGTH = 4.0
"""Bars longer than this multiple of the median of their panel are truncated."""
WIDTH, BAR, PANEL = 8.0, 0.34, 0.75
DPI = 140


def stacked_bars(records: Sequence[Mapping[str, Any]], suffix: str = ".png") -> bytes:
    """Draw costs with one panel per frame size and return the content of the image file.

    Args:
        records: Records with `name`, `size`, `flow`, `seconds` by step, and `total`.
        suffix: Image format, one of `FORMATS`.
    """
    return image_file(lambda: _figure(records), suffix, "ticks")


def _figure(records: Sequence[Mapping[str, Any]]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    sizes = list(dict.fromkeys(record["size"] for record in records))
    groups = [[record for record in records if record["size"] == size] for size in sizes]
    heights = [BAR * len(group) + PANEL for group in groups]
    drawing = Figure(figsize=(WIDTH, sum(heights) + 0.5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    panels = drawing.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, group, size in zip(panels, groups, sizes, strict=True):
        _panel(axes, group)
        axes.set_title(f"{size.replace('x', ' × ')} pixels", loc="left", fontsize=9.5)
    panels[-1].set_xlabel("seconds per minute of video")
    used = {step for record in records for step in record["seconds"]}
    handles = [Patch(color=colour, label=label) for step, (label, colour) in STEPS.items() if step in used]
    drawing.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return drawing


def _panel(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    totals = [float(record["total"]) for record in records]
    limit = 1.3 * max(total for total in totals if total <= MAX_RELATIVE_LENGTH * float(np.median(totals)))
    for index, (record, total) in enumerate(zip(records, totals, strict=True)):
        left = 0.0
        for step in [*STEPS, *(s for s in record["seconds"] if s not in STEPS)]:
            seconds = record["seconds"].get(step, 0.0)
            axes.barh(index, seconds, left=left, color=STEPS.get(step, ("", "0.5"))[1], height=0.72, lw=0)
            left += seconds
        if total > limit:
            text = f"{total:.0f} s, truncated  "
            axes.text(limit, index, text, ha="right", va="center", color="white", weight="bold")
        else:
            axes.text(total, index, f" {total:.2f} s" if total < 10 else f" {total:.1f} s", va="center")
    axes.set_yticks(range(len(records)), [_label(record) for record in records])
    axes.set(xlim=(0, limit), ylim=(len(records) - 0.45, -0.55))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _label(record: Mapping[str, Any]) -> str:
    flow = FLOWS.get(record["flow"], record["flow"])
    return f"{name(record['name'])}\n{flow if not record['flow'] else f'RGB + {flow}'}"
