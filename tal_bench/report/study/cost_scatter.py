"""The first figure: average mAP against what a minute of video costs, a point with its spread per row."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Literal

from tal_bench.report.common.label_placement import Box, Label, place
from tal_bench.report.common.plot_style import DPI, TINY
from tal_bench.report.study import notes
from tal_bench.report.study.collect import Row, Study

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
WRAP = 145
"""Characters on a line below the figure."""
LOG_FROM = 5.0
"""Ratio of the largest to the smallest cost from which on the axis is logarithmic."""
DODGE = 7.5
"""Points (1/72 inch) between markers of rows that cost the same."""
CROWD = 36.0
"""Points that such a group takes at most: on a logarithmic axis, width looks like cost."""
MARGIN = 0.12
"""Share of a logarithmic axis that stays free on the left."""
FONT = 9.0
MARKER = 5.5
LEADER = {"arrowstyle": "-", "lw": 0.5, "alpha": 0.55, "shrinkA": 1, "shrinkB": 1}


@dataclass(frozen=True)
class Point:
    """A row in the figure: cost and mean mAP, its spread, and its place in a crowd of rows of equal cost.

    `other` is its cost with the dearest other privileged extractor, where it uses one; `front` says that no
    row of equal or lower cost is better.
    """

    row: Row
    x: float
    y: float
    sd: float
    other: float | None = None
    place: int = 0
    crowd: int = 1
    front: bool = False

    @property
    def shift(self) -> float:
        """Distance of the marker from its cost, in points."""
        step = min(DODGE, CROWD / max(self.crowd - 1, 1))
        return step * (self.place - (self.crowd - 1) / 2)


def figure(study: Study) -> Figure:
    """Draw the study; the caller saves it.

    Cost is seconds per minute of video; without video, latency; without either, the place in the table.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind, points, missing = _points(study)
    extractor = notes.extractor(_dearest(study)) if any(p.other for p in points) else ""
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
    _legend(axes, points, extractor)
    if kind != "place":
        _label(axes, points)
    return drawing


def _points(study: Study) -> tuple[Literal["minute", "latency", "place"], list[Point], list[str]]:
    """What is on the x axis, the rows that can be drawn, and the names of those that cannot."""
    rows = [row for row in study.rows if row.mean() is not None]
    minutes = {row.name: row.minute for row in rows}
    latency = {row.name: row.cost.latency_ms.get("median") if row.cost else None for row in rows}
    dearest = _dearest(study)
    places: dict[str, float | None] = {row.name: float(place) for place, row in enumerate(rows)}
    kind: Literal["minute", "latency", "place"] = "place"
    chosen = places
    if any(minutes.values()):
        kind, chosen = "minute", minutes
    elif any(latency.values()):
        kind, chosen = "latency", latency
    points = [
        Point(row, x, row.mean() or 0.0, row.sd() or 0.0, _other(row, dearest) if kind == "minute" else None)
        for row in rows
        if (x := chosen[row.name]) is not None
    ]
    missing = [row.name for row in study.rows if row.name not in {p.row.name for p in points}]
    return kind, _dodge(points), missing


def _dearest(study: Study) -> str:
    """The other privileged extractor that costs most, or nothing without any."""
    found = {a: s for row in study.rows if row.cost for a, s in row.cost.minute_alternatives.items()}
    return max(sorted(found), key=found.__getitem__, default="")


def _other(row: Row, extractor: str) -> float | None:
    """The row's cost with that extractor, when it differs so much that it can be seen apart."""
    cost = row.minute_with(extractor) if extractor else None
    return cost if cost and row.minute and cost > 1.1 * row.minute else None


def _dodge(points: Sequence[Point]) -> list[Point]:
    """Set rows of (nearly) equal cost side by side, so that their spreads can be read; find the front."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda p: p.x):
        if groups and point.x <= 1.02 * groups[-1][0].x:
            groups[-1].append(point)
        else:
            groups.append([point])
    best, placed = float("-inf"), []
    for group in groups:
        best = max(best, *(p.y for p in group))
        middle = median(p.x for p in group)
        for rank, p in enumerate(sorted(group, key=lambda p: p.y)):
            placed.append(replace(p, x=middle, place=rank, crowd=len(group), front=p.y >= best))
    return placed


def _scales(axes: Axes, kind: str, points: Sequence[Point]) -> None:
    """Limits that leave room for labels on both sides."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = [x for p in points for x in (p.x, p.other) if x is not None] or [1.0]
    logarithmic = kind != "place" and min(xs) > 0 and max(xs) / min(xs) >= LOG_FROM
    if kind == "place":
        axes.set_xlim(min(xs) - 0.7, max(xs) + 0.7)
    elif logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        named = max((len(_name(p.row)) for p in points if p.other), default=9)  # at the end of its line
        right = min(0.05 + 0.0135 * named, 0.4)
        span = (max(xs) / min(xs)) ** (1 / (1 - MARGIN - right))
        axes.set_xlim(min(xs) / span**MARGIN, max(xs) * span**right)
    else:
        reach = max(max(xs) - min(xs), 0.2 * abs(max(xs)), 1e-9)
        axes.set_xlim(min(xs) - 0.4 * reach, max(xs) + 0.3 * reach)
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
    axes.set_title(f"{study.record.spec.name}: {study.record.dataset}", loc="left", fontsize=11)
    seeds = max((len(row.results) for row in study.rows), default=0)
    note = f"Bars: ± standard deviation over {seeds} seeds. " if seeds > 1 else "One seed. "
    if not study.complete:  # beside the legend there is no room for it
        note = f"INCOMPLETE. {note}"
    if kind != "place":
        note += "Rows of equal cost stand side by side at the dotted line. "
        note += "Bold: no row that costs less is better. "
    if missing:
        note += f"Not shown: {', '.join(missing)}."
    lines = [*textwrap.wrap(note, WRAP), *textwrap.wrap(" · ".join(notes.source(study)), WRAP)]
    axes.figure.supxlabel("\n".join(lines), fontsize=TINY, color="0.35", x=0.01, ha="left")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name(row: Row) -> str:
    return row.name if row.complete else f"{row.name} ({len(row.results)}/{row.expected})"


def _measured(study: Study, step: str) -> bool:
    return any(row.cost and step in row.cost.minute for row in study.rows)


def _draw(axes: Axes, points: Sequence[Point]) -> None:
    """Markers, spreads, and lines to what rows would cost with another extractor."""
    from matplotlib.transforms import ScaledTranslation

    for cost in {p.x for p in points if p.crowd > 1}:
        ends = [end for p in points if p.x == cost for end in (p.y - p.sd, p.y + p.sd)]
        axes.vlines(cost, min(ends), max(ends), color="0.6", linewidth=0.9, linestyle=":", zorder=0)
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
        if p.other is not None:
            axes.plot([p.x, p.other], [p.y, p.y], color=color, linewidth=0.8, alpha=0.6, zorder=1)
            axes.plot(p.other, p.y, color=color, marker=marker, markersize=MARKER, markerfacecolor="white")


def _legend(axes: Axes, points: Sequence[Point], extractor: str) -> None:
    from matplotlib.lines import Line2D

    kinds = [k for k in STYLES if any(p.row.record.kind == k for p in points)]
    handles = [
        Line2D([], [], color=STYLES[k][0], marker=STYLES[k][1], linestyle="", label=STYLES[k][2])
        for k in kinds
    ]
    hollow = {"no teacher": ("black", "o")} if any(p.row.name == "none" for p in points) else {}
    if extractor:
        hollow[f"teacher with {extractor}"] = STYLES["teacher"][:2]
    handles += [
        Line2D([], [], color=color, marker=marker, markerfacecolor="white", linestyle="", label=label)
        for label, (color, marker) in hollow.items()
    ]
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
    labels, lines = [], []
    for p in points:
        x, y = axes.transData.transform((p.x, p.y))
        reach = max(float(axes.transData.transform((p.x, p.y + p.sd))[1] - y), 4 * unit)
        x += p.shift * unit
        if p.other is not None:  # its name stands at the end of its line
            start, x, reach = x, float(axes.transData.transform((p.other, p.y))[0]), 4 * unit
            lines.append(Box(start - 4 * unit, y - reach, x, y + reach))
        name = _name(p.row)
        weight = "bold" if p.front else "normal"
        text = Text(0, 0, name, fontsize=FONT, fontweight=weight, figure=axes.figure)
        size = text.get_window_extent(renderer)
        labels.append(Label(name, x, y, reach, 3.5 * unit, size.width, 1.1 * size.height))
    frame = axes.get_window_extent(renderer)
    bounds = Box(frame.x0 + 2 * unit, frame.y0, float(axes.figure.bbox.x1) - 4 * unit, frame.y1)
    places = place(labels, bounds, gap=7 * unit, lines=lines)
    width, height = axes.figure.bbox.size  # files differ in pixels per inch
    for p, label, at in zip(points, labels, places, strict=True):
        left = at.side > 0
        axes.annotate(
            label.text,
            xy=((label.x + at.side * 3.5 * unit) / width, label.y / height),
            xytext=(at.x / width, at.y / height),
            xycoords="figure fraction",
            textcoords="figure fraction",
            ha="left" if left else "right",
            va="center",
            fontsize=FONT,
            fontweight="bold" if p.front else "normal",
            color="0.1",
            arrowprops=LEADER | {"color": STYLES[p.row.record.kind][0]},
        )
