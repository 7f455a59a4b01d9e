"""One figure: average mAP against what a minute of video costs, a point with its spread per row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Literal

from tal_bench.report.collect import Row, Study
from tal_bench.report.placement import Box, Label, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette; lightness and marker shape tell the kinds apart in grey, too.
STYLES = {
    "teacher": ("#0072B2", "s", "teacher"),
    "reference": ("#E69F00", "^", "reference"),
    "student": ("#000000", "o", "student"),
}
SIZE = (7.5, 4.8)
DPI = 150
LOG_FROM = 5.0
"""Ratio of the largest to the smallest cost from which on the axis is logarithmic."""
DODGE = 7.5
"""Points (1/72 inch) between markers of rows that cost the same."""
FONT = 9.0
MARKER = 5.5


@dataclass(frozen=True)
class Point:
    """A row in the figure: cost and mean mAP, its spread, and its place in a crowd of rows of equal cost."""

    row: Row
    x: float
    y: float
    sd: float
    place: int = 0
    crowd: int = 1

    @property
    def shift(self) -> float:
        """Distance of the marker from its cost, in points."""
        return DODGE * (self.place - (self.crowd - 1) / 2)


def figure(study: Study) -> Figure:
    """Draw the study; the caller saves it.

    Cost is seconds per minute of video; without video, latency; without either, the place in the table.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind, points, missing = _points(study)
    drawing = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)  # knows how wide text is; a notebook's own backend stays as it is
    axes = drawing.add_subplot()
    _scales(axes, kind, points)
    _text(axes, study, kind, missing)
    if kind == "place":
        names = [_name(p.row) for p in points]
        axes.set_xticks([p.x for p in points], names, rotation=35, ha="right", rotation_mode="anchor")
    drawing.draw_without_rendering()  # fixes the layout, which labels are placed in
    drawing.set_layout_engine("none")
    _draw(axes, points)
    if kind != "place":
        _label(axes, points)
    return drawing


def render(study: Study) -> dict[str, bytes]:
    """The figure as files: suffix (`.png`, `.svg`) to content; equal for equal studies."""
    import matplotlib

    drawing = figure(study)
    files = {}
    with matplotlib.rc_context({"svg.hashsalt": "tal_bench", "svg.fonttype": "none"}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            buffer = io.BytesIO()
            drawing.savefig(buffer, format=suffix[1:], metadata=metadata)
            files[suffix] = buffer.getvalue()
    return files


def _points(study: Study) -> tuple[Literal["minute", "latency", "place"], list[Point], list[str]]:
    """What is on the x axis, the rows that can be drawn, and the names of those that cannot."""
    rows = [row for row in study.rows if row.mean() is not None]
    minutes = {row.name: row.minute for row in rows}
    latency = {row.name: row.cost.latency_ms.get("median") if row.cost else None for row in rows}
    places: dict[str, float | None] = {row.name: float(place) for place, row in enumerate(rows)}
    kind: Literal["minute", "latency", "place"] = "place"
    chosen = places
    if any(minutes.values()):
        kind, chosen = "minute", minutes
    elif any(latency.values()):
        kind, chosen = "latency", latency
    points = [
        Point(row, x, row.mean() or 0.0, row.sd() or 0.0)
        for row in rows
        if (x := chosen[row.name]) is not None
    ]
    missing = [row.name for row in study.rows if row.name not in {p.row.name for p in points}]
    return kind, _dodge(points), missing


def _dodge(points: Sequence[Point]) -> list[Point]:
    """Set rows of (nearly) equal cost side by side, so that their spreads can be read."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda p: p.x):
        if groups and point.x <= 1.02 * groups[-1][0].x:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [
        replace(p, x=median(q.x for q in group), place=place, crowd=len(group))
        for group in groups
        for place, p in enumerate(sorted(group, key=lambda p: p.y))
    ]


def _scales(axes: Axes, kind: str, points: Sequence[Point]) -> None:
    """Limits that leave room for labels on both sides."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = [p.x for p in points] or [1.0]
    logarithmic = kind != "place" and min(xs) > 0 and max(xs) / min(xs) >= LOG_FROM
    if kind == "place":
        axes.set_xlim(min(xs) - 0.7, max(xs) + 0.7)
    elif logarithmic:
        ratio = max(xs) / min(xs)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        margin = max(ratio**0.25, 2.0)
        axes.set_xlim(min(xs) / margin, max(xs) * margin)
    else:
        reach = max(max(xs) - min(xs), 0.2 * abs(max(xs)), 1e-9)
        axes.set_xlim(min(xs) - 0.3 * reach, max(xs) + 0.3 * reach)
    low = min((p.y - p.sd for p in points), default=0.0)
    high = max((p.y + p.sd for p in points), default=1.0)
    margin = max(0.08 * (high - low), 0.5)
    axes.set_ylim(low - margin, high + margin)


def _text(axes: Axes, study: Study, kind: str, missing: Sequence[str]) -> None:
    parts = [s for s in ("decode", "flow", "backbone", "detector") if _measured(study, s)]
    axes.set_xlabel(
        {
            "minute": f"Seconds per minute of video ({' + '.join(parts)})",
            "latency": "Latency of the detector alone, median (ms)",
            "place": "Row of the table (cost was not measured)",
        }[kind]
    )
    axes.set_ylabel("Average mAP (%)")
    state = "" if study.complete else ", incomplete"
    axes.set_title(f"{study.record.spec.name}: {study.record.dataset}{state}", loc="left", fontsize=11)
    seeds = max((len(row.results) for row in study.rows), default=0)
    note = f"Bars: ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed. "
    if kind != "place":
        note += "Rows of equal cost stand side by side at the dotted line. "
    if missing:
        note += f"Not shown: {', '.join(missing)}."
    axes.figure.supxlabel(note, fontsize=8, color="0.35", x=0.01, ha="left")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name(row: Row) -> str:
    return row.name if row.complete else f"{row.name} ({len(row.results)}/{row.expected})"


def _measured(study: Study, step: str) -> bool:
    return any(row.cost and step in row.cost.minute for row in study.rows)


def _draw(axes: Axes, points: Sequence[Point]) -> None:
    """Markers, spreads and the legend of kinds."""
    from matplotlib.transforms import ScaledTranslation

    for cost in {p.x for p in points if p.crowd > 1}:
        axes.axvline(cost, color="0.6", linewidth=0.9, linestyle=":", zorder=0)
    for p in points:
        color, marker, _ = STYLES[p.row.record.kind]
        shifted = axes.transData + ScaledTranslation(p.shift / 72, 0, axes.figure.dpi_scale_trans)
        axes.errorbar(
            p.x,
            p.y,
            yerr=p.sd or None,
            color=color,
            marker=marker,
            markersize=MARKER,
            markerfacecolor="white" if p.row.name == "none" else color,
            capsize=2.5,
            elinewidth=1.1,
            transform=shifted,
        )
    _legend(axes, points)


def _legend(axes: Axes, points: Sequence[Point]) -> None:
    from matplotlib.lines import Line2D

    kinds = [k for k in STYLES if any(p.row.record.kind == k for p in points)]
    handles = [
        Line2D([], [], color=STYLES[k][0], marker=STYLES[k][1], linestyle="", label=STYLES[k][2])
        for k in kinds
    ]
    if any(p.row.name == "none" for p in points):
        handles.append(
            Line2D(
                [], [], color="black", marker="o", markerfacecolor="white", linestyle="", label="no teacher"
            )
        )
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        columnspacing=1.0,
        handletextpad=0.2,
        borderpad=0.0,
    )


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Names beside the points, moved apart, with a thin line to a point that is not adjacent."""
    from matplotlib.text import Text

    unit = axes.figure.dpi / 72
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = []
    for p in points:
        x, y = axes.transData.transform((p.x, p.y))
        reach = float(axes.transData.transform((p.x, p.y + p.sd))[1] - y)
        name = _name(p.row)
        probe = Text(0, 0, name, fontsize=FONT, figure=axes.figure)
        size = probe.get_window_extent(renderer)
        labels.append(
            Label(
                name, x + p.shift * unit, y, max(reach, 4 * unit), 3.5 * unit, size.width, 1.1 * size.height
            )
        )
    frame = axes.get_window_extent(renderer)
    bounds = Box(frame.x0 + 2 * unit, frame.y0, float(axes.figure.bbox.x1) - 4 * unit, frame.y1)
    for p, label, at in zip(points, labels, place(labels, bounds, gap=7 * unit), strict=True):
        color = STYLES[p.row.record.kind][0]
        left = at.side > 0
        axes.annotate(
            label.text,
            xy=(label.x + at.side * 3.5 * unit, label.y),
            xytext=(at.x, at.y),
            xycoords="figure pixels",
            textcoords="figure pixels",
            ha="left" if left else "right",
            va="center",
            fontsize=FONT,
            color="0.1",
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "lw": 0.5,
                "alpha": 0.55,
                "shrinkA": 1,
                "shrinkB": 1,
            },
        )
