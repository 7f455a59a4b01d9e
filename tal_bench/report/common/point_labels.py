"""Names next to the points of a figure, without overlap, connected to their points by thin lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tal_bench.report.common.label_placement import Box, Label, place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

HALF_MARKER, GAP = 3.5, 7.0
"""Half the width of a marker, and the distance of a label from it, in points (1/72 inch)."""
HALF_HEIGHT = 4.0
"""Smallest half height of a point with its standard deviation, in points (1/72 inch)."""
LINE_HEIGHT = 1.1
"""Height of the line of a label, relative to its text."""
LEADER: dict[str, Any] = {"arrowstyle": "-", "lw": 0.5, "alpha": 0.55, "shrinkA": 1, "shrinkB": 1}
"""Style of the lines."""


@dataclass(frozen=True)
class LabelledPoint:
    """A point and the text next to it.

    Attributes:
        text: Text of the label.
        x, y, sd: Position and standard deviation in the units of the axes.
        color: Colour of the line from the label to the point.
        weight: Weight of the font.
        shift: Horizontal offset of the marker in points (1/72 inch).
        end: Right end of a line from the point; the label is next to this end.
    """

    text: str
    x: float
    y: float
    sd: float = 0.0
    color: str = "0.4"
    weight: str = "normal"
    shift: float = 0.0
    end: float | None = None


def label_points(
    axes: Axes, points: Sequence[LabelledPoint], right: float | None = None, **style: Any
) -> list[Annotation]:
    """Label points of axes whose layout and limits are final.

    Args:
        axes: Axes of a figure that has been drawn once.
        points: Points in any order.
        right: Where labels end, in pixels; None for the right edge of the axes.
        style: Properties of the texts, such as `fontsize`.

    Returns:
        A text for each point; its `arrow_patch` is the line to the point.
    """
    unit = axes.figure.dpi / 72
    labels, lines = [], []
    for point in points:
        label, line = _measured(axes, point, unit, style)
        labels.append(label)
        lines += line
    frame = axes.get_window_extent()
    bounds = Box(frame.x0 + 2 * unit, frame.y0, float(frame.x1) if right is None else right, frame.y1)
    positions = place_labels(labels, bounds, gap=GAP * unit, lines=lines)
    width, height = axes.figure.bbox.size  # fractions, because files differ in pixels per inch
    return [
        axes.annotate(
            label.text,
            xy=((label.x + position.side * label.half_width) / width, label.y / height),
            xytext=(position.x / width, position.y / height),
            xycoords="figure fraction",
            textcoords="figure fraction",
            ha="left" if position.side > 0 else "right",
            va="center",
            fontweight=point.weight,
            color="0.1",
            # the line begins at the end of the label that is nearer to the point
            arrowprops={**LEADER, "color": point.color, "relpos": (0.0 if position.side > 0 else 1.0, 0.5)},
            **style,
        )
        for point, label, position in zip(points, labels, positions, strict=True)
    ]


def _measured(
    axes: Axes, point: LabelledPoint, unit: float, style: dict[str, Any]
) -> tuple[Label, list[Box]]:
    """Return a label in pixels, and the box of the line from the point, if any."""
    from matplotlib.text import Text

    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    x, y = axes.transData.transform((point.x, point.y))
    half_height = max(
        float(axes.transData.transform((point.x, point.y + point.sd))[1] - y), HALF_HEIGHT * unit
    )
    x += point.shift * unit
    lines = []
    if point.end is not None:
        start, x = x, float(axes.transData.transform((point.end, point.y))[0])
        half_height = HALF_HEIGHT * unit
        lines.append(Box(start - HALF_HEIGHT * unit, y - half_height, x, y + half_height))
    text = Text(0, 0, point.text, fontweight=point.weight, figure=axes.figure, **style)
    size = text.get_window_extent(renderer)
    label = Label(point.text, x, y, half_height, HALF_MARKER * unit, size.width, LINE_HEIGHT * size.height)
    return label, lines
