"""Style, captions and file output of the figures of a report."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tal_bench.report.common.figure_marks import marked_svg
from tal_bench.system.fonts import plain_text
from tal_bench.system.text import shortened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which is distinguishable for colour-blind readers.
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
"""Colour, marker and dashes of lines; markers and dashes distinguish lines in greyscale."""
WIDTH = 9.0
"""Width in inches of a figure with panels side by side."""
DPI = 150
NAME_LENGTH = 40
"""Maximum length of a name in a figure; `…` replaces the middle of a longer one."""
TITLE_DENSITY, CAPTION_DENSITY, SMALL_DENSITY = 10.5, 18.5, 15.0
"""Characters per inch of a title, of a caption and of text of size `SMALL`."""
SMALL = 8.0
TINY = 7.0
RC: Any = {
    "hatch.linewidth": 0.5,
    "hatch.color": "white",
    "svg.hashsalt": "tal_bench",
    "svg.fonttype": "none",
}


def new_figure(width: float, height: float) -> Figure:
    """Return a figure in seaborn's style that notebooks do not display automatically."""
    import seaborn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with seaborn.axes_style("ticks"), seaborn.plotting_context("paper"):
        drawing = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(drawing)
    return drawing


def rendered(drawing: Figure) -> dict[str, bytes]:
    """Return the content of a figure by suffix (`.png`, `.svg`); equal figures give equal content."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    png, svg = io.BytesIO(), io.BytesIO()
    with plain_text(), matplotlib.rc_context(RC):
        if drawing.axes and (layout := drawing.get_layout_engine()):
            layout.execute(drawing)
        drawing.set_layout_engine("none")  # use the same layout for both files
        # `savefig` would compute the layout again for each file.
        FigureCanvasAgg(drawing).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
        FigureCanvasSVG(drawing).print_svg(svg, metadata={"Date": None})  # type: ignore[no-untyped-call]
        FigureCanvasAgg(drawing)
        drawing.dpi = DPI  # writing SVG sets it to 72
    return {".png": png.getvalue(), ".svg": marked_svg(svg.getvalue())}


def caption(
    drawing: Figure, title: str, notes: Sequence[str], provenance: Sequence[str], *, space: str = ""
) -> None:
    """Draw the title above a figure, and notes and provenance below it, wrapped to its width.

    Args:
        drawing: Figure to annotate.
        title: Title of the figure.
        notes: Sentences on the content of the figure.
        provenance: Command, commit, data and date.
        space: One line break per line of `legend_above`.
    """
    width = int(drawing.get_figwidth() * CAPTION_DENSITY)
    title = shortened(title, int(drawing.get_figwidth() * TITLE_DENSITY))
    drawing.suptitle(f"{title}{space}", x=0.01, ha="left", fontsize=11)
    lines = [*textwrap.wrap(" ".join(notes), width), *textwrap.wrap(" · ".join(provenance), width)]
    drawing.supxlabel("\n".join(lines), fontsize=TINY, color="0.35", x=0.01, ha="left")


def name(text: str, length: int = NAME_LENGTH) -> str:
    """Return a name as figures show it: on one line, with `…` in the middle if it is long."""
    return shortened(text, length)


def column_name(text: str, inches: float) -> str:
    """Return a name for the head of a column of this width, on several lines if it is wide."""
    width = max(int(inches * SMALL_DENSITY), 4)
    lines = [""]
    for part in re.findall(r"[^-_/ .]*[-_/ .]|[^-_/ .]+", name(text, 4 * width)):
        for piece in (part[k : k + width] for k in range(0, len(part), width)):
            if len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def legend_above(drawing: Figure, handles: Sequence[Artist], names: Sequence[str], columns: int) -> None:
    """Draw a legend between the title and the panels, in the space left by `caption`."""
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
    """Set a light grid and small tick labels, and remove the upper and right spines."""
    axes.grid(True, axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
