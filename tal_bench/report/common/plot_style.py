"""What the figures of a report share: looks, captions that say where numbers come from, files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people tell apart.
BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
YELLOW, ORANGE, RED, PINK, GREY = "#F0E442", "#E69F00", "#D55E00", "#CC79A7", "#999999"
LINES = (
    (BLUE, "o", "-"),
    (RED, "s", "--"),
    (GREEN, "^", "-."),
    (PINK, "D", ":"),
    (ORANGE, "v", (0, (5, 1))),
    (SKY, "P", (0, (3, 1, 1, 1))),
    (GREY, "X", (0, (1, 1))),
)
"""Colour, marker and dashes of a line: the latter two tell lines apart in grey."""
WIDTH = 9.0
"""Inches of a figure with panels side by side."""
DPI = 150
SMALL = 8.0
TINY = 7.0
RC: Any = {
    "hatch.linewidth": 0.5,
    "hatch.color": "white",
    "svg.hashsalt": "tal_bench",
    "svg.fonttype": "none",
}


def new_figure(width: float, height: float) -> Figure:
    """A figure with seaborn's looks that no notebook shows by itself."""
    import seaborn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with seaborn.axes_style("ticks"), seaborn.plotting_context("paper"):
        drawing = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(drawing)
    return drawing


def rendered(drawing: Figure) -> dict[str, bytes]:
    """The figure as files: suffix (`.png`, `.svg`) to content; equal for equal results."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    png, svg = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(RC):
        drawing.draw_without_rendering()
        drawing.set_layout_engine("none")  # found once, it holds for both files
        # `savefig` would draw everything once more to find a layout, for each file.
        FigureCanvasAgg(drawing).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
        FigureCanvasSVG(drawing).print_svg(svg, metadata={"Date": None})  # type: ignore[no-untyped-call]
        FigureCanvasAgg(drawing)
        drawing.dpi = DPI  # an SVG has 72
    return {".png": png.getvalue(), ".svg": svg.getvalue()}


def caption(
    drawing: Figure, title: str, notes: Sequence[str], provenance: Sequence[str], *, room: str = ""
) -> None:
    """Title above; below it what the figure shows and where it comes from, wrapped to its width.

    Args:
        drawing: to write on.
        title: of the figure.
        notes: sentences.
        provenance: command, commit, data, date.
        room: line breaks behind the title, as many as lines of `legend_above`.
    """
    width = int(drawing.get_figwidth() * 18.5)
    drawing.suptitle(f"{title}{room}", x=0.01, ha="left", fontsize=11)
    source = " · ".join(provenance).replace("$", r"\$")  # a command is no formula
    lines = [*textwrap.wrap(" ".join(notes), width), *textwrap.wrap(source, width)]
    drawing.supxlabel("\n".join(lines), fontsize=TINY, color="0.35", x=0.01, ha="left")


def legend_above(drawing: Figure, handles: Sequence[Artist], names: Sequence[str], columns: int) -> None:
    """A legend between the title and the panels; `caption` leaves the room."""
    width, height = drawing.get_size_inches()
    drawing.legend(
        handles,
        names,
        loc="upper left",
        bbox_to_anchor=(0.1 / width, 1 - 0.24 / height),
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        columnspacing=1.4,
        borderpad=0,
    )


def plain(axes: Axes, *, grid: str = "both") -> None:
    """Light grid, small ticks, no frame at the top and the right."""
    axes.grid(True, axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
