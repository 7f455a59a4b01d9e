"""Scatter plot of average mAP against cost with one point per row."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Literal

from tal_bench.report.common import formats
from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.plot_style import DPI, TINY, TITLE_DENSITY, name
from tal_bench.report.common.point_labels import LabelledPoint, label_points
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.results.columns import extractor_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette; lightness and marker shape distinguish the kinds in greyscale.
STYLES = {
    "teacher": ("#0072B2", "s", "teacher"),
    "reference": ("#E69F00", "^", "reference"),
    "student": ("#000000", "o", "student"),
}
SIZE = (7.5, 4.8)
"""Inches; figures with more points are higher, so that all labels have room in one column."""
ROOM = (1.2, 0.15)
"""Inches of height beside the labels, and for each label."""
SHORT_TITLE = 24
"""Length up to which the title fits beside the legend."""
WRAP = 145
"""Characters per line below the figure."""
LOG_FROM = 5.0
"""Ratio of the largest to the smallest cost from which the axis is logarithmic."""
DODGE = 7.5
"""Distance in points (1/72 inch) between markers of rows of equal cost."""
MAX_GROUP_WIDTH = 36.0
"""Maximum width in points of a group of equal cost, because width on a logarithmic axis looks like cost."""
MARGIN = 0.12
"""Share of a logarithmic axis that is left free on the left."""
FONT = 9.0
MARKER = 5.5


@dataclass(frozen=True)
class Point:
    """A row in the figure.

    Attributes:
        row: Row of the study.
        x: Cost.
        y: Mean average mAP.
        sd: Standard deviation of average mAP.
        other: Cost with the most expensive alternative extractor, if the row uses a privileged modality.
        rank: Index of the row among the rows of equal cost.
        group_size: Number of rows of equal cost.
        front: Whether no row of equal or lower cost has a higher mAP.
    """

    row: Row
    x: float
    y: float
    sd: float
    other: float | None = None
    rank: int = 0
    group_size: int = 1
    front: bool = False

    @property
    def shift(self) -> float:
        """Horizontal offset of the marker from its cost, in points (1/72 inch)."""
        step = min(DODGE, MAX_GROUP_WIDTH / max(self.group_size - 1, 1))
        return step * (self.rank - (self.group_size - 1) / 2)


def figure(study: ReportData) -> Figure:
    """Draw average mAP against cost.

    Cost is seconds per minute of video. If it was not measured, the latency of the detector takes its place,
    or the index of the row if latency was not measured, either.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind, points, missing = _points(study)
    extractor = extractor_name(_most_expensive(study)) if any(p.other for p in points) else ""
    height = max(SIZE[1], ROOM[0] + ROOM[1] * len(points))
    drawing = Figure(figsize=(SIZE[0], height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)  # measures text without changing the backend of a notebook
    axes = drawing.add_subplot()
    _scales(axes, kind, points)
    _text(axes, study, kind, missing)
    if kind == "index":
        names = [_name(p.row) for p in points]
        axes.set_xticks([p.x for p in points], names, rotation=35, ha="right", rotation_mode="anchor")
    drawing.draw_without_rendering()  # fixes the layout before labels are placed
    drawing.set_layout_engine("none")
    _draw(axes, points, kind, extractor)
    _legend(axes, points, extractor)
    if kind != "index":
        _label(axes, points)
    return drawing


def _points(study: ReportData) -> tuple[Literal["minute", "latency", "index"], list[Point], list[str]]:
    """Return the quantity on the x axis, the points, and the names of rows that cannot be drawn."""
    rows = [row for row in study.rows if row.mean() is not None]
    minutes = {row.name: row.minute for row in rows}
    latency = {row.name: row.cost.latency_ms.get("median") if row.cost else None for row in rows}
    extractor = _most_expensive(study)
    kind: Literal["minute", "latency", "index"] = "index"
    costs: dict[str, float | None] = {row.name: float(index) for index, row in enumerate(rows)}
    if any(minutes.values()):
        kind, costs = "minute", minutes
    elif any(latency.values()):
        kind, costs = "latency", latency
    points = [
        Point(
            row, x, row.mean() or 0.0, row.sd() or 0.0, _other(row, extractor) if kind == "minute" else None
        )
        for row in rows
        if (x := costs[row.name]) is not None
    ]
    missing = [row.name for row in study.rows if row.name not in {p.row.name for p in points}]
    return kind, _dodge(points), missing


def _most_expensive(study: ReportData) -> str:
    """Return the most expensive alternative extractor of a privileged modality; empty if there is none."""
    costs = {a: s for row in study.rows if row.cost for a, s in row.cost.minute_alternatives.items()}
    return max(sorted(costs), key=costs.__getitem__, default="")


def _other(row: Row, extractor: str) -> float | None:
    """Return the cost of a row with an extractor; None if it is not at least 10 % higher."""
    cost = row.minute_with(extractor) if extractor else None
    return cost if cost and row.minute and cost > 1.1 * row.minute else None


def _dodge(points: Sequence[Point]) -> list[Point]:
    """Group rows of nearly equal cost to be drawn side by side, and find the front."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda p: p.x):
        if groups and point.x <= 1.02 * groups[-1][0].x:
            groups[-1].append(point)
        else:
            groups.append([point])
    best, result = float("-inf"), []
    for group in groups:
        best = max(best, *(p.y for p in group))
        middle = median(p.x for p in group)
        for rank, p in enumerate(sorted(group, key=lambda p: p.y)):
            result.append(replace(p, x=middle, rank=rank, group_size=len(group), front=p.y >= best))
    return result


def _scales(axes: Axes, kind: str, points: Sequence[Point]) -> None:
    """Set scales and limits that leave room for labels on both sides."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = [x for p in points for x in (p.x, p.other) if x is not None] or [1.0]
    logarithmic = kind != "index" and min(xs) > 0 and max(xs) / min(xs) >= LOG_FROM
    if kind == "index":
        axes.set_xlim(min(xs) - 0.7, max(xs) + 0.7)
    elif logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        longest = max((len(_name(p.row)) for p in points if p.other), default=9)  # right of `other`
        right = min(0.05 + 0.0135 * longest, 0.4)
        span = (max(xs) / min(xs)) ** (1 / (1 - MARGIN - right))
        axes.set_xlim(min(xs) / span**MARGIN, max(xs) * span**right)
    else:
        span = max(max(xs) - min(xs), 0.2 * abs(max(xs)), 1e-9)
        axes.set_xlim(min(xs) - 0.4 * span, max(xs) + 0.3 * span)
    low = min((p.y - p.sd for p in points), default=0.0)
    high = max((p.y + p.sd for p in points), default=1.0)
    margin = max(0.08 * (high - low), 0.5)
    axes.set_ylim(low - margin, high + margin)


def _text(axes: Axes, study: ReportData, kind: str, missing: Sequence[str]) -> None:
    parts = [s for s in ("decode", "flow", "backbone", "detector") if _measured(study, s)]
    axes.set_xlabel(
        {
            "minute": f"Seconds per minute of video ({' + '.join(parts)})",
            "latency": "Latency of the detector, median (ms)",
            "index": "Row of the table (cost was not measured)",
        }[kind]
    )
    axes.set_ylabel("Average mAP (%)")
    title = name(f"{study.record.spec.name}: {study.record.dataset}", int(SIZE[0] * TITLE_DENSITY))
    # A long title is above the legend, not beside it.
    axes.set_title(title if len(title) <= SHORT_TITLE else f"{title}\n", loc="left", fontsize=11)
    seeds = [len(row.results) for row in study.rows if row.results]
    note = f"{notes.bars(seeds)} "
    if not study.complete:
        note = f"INCOMPLETE. {note}"
    if kind != "index":
        note += "Rows of equal cost are drawn side by side around a dotted line. "
        note += "Bold: no row of equal or lower cost is better. "
    if missing:
        note += f"Not shown: {', '.join(map(name, missing))}."
    lines = [*textwrap.wrap(note, WRAP), *textwrap.wrap(" · ".join(notes.source(study)), WRAP)]
    axes.figure.supxlabel("\n".join(lines), fontsize=TINY, color="0.35", x=0.01, ha="left")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name(row: Row) -> str:
    return name(row.name) if row.complete else f"{name(row.name)} ({len(row.results)}/{row.expected})"


def _measured(study: ReportData, step: str) -> bool:
    return any(row.cost and step in row.cost.minute for row in study.rows)


def _draw(axes: Axes, points: Sequence[Point], kind: str, extractor: str) -> None:
    """Draw markers, standard deviations, and lines to the costs with another extractor."""
    from matplotlib.transforms import ScaledTranslation

    for cost in {p.x for p in points if p.group_size > 1}:
        ends = [end for p in points if p.x == cost for end in (p.y - p.sd, p.y + p.sd)]
        axes.vlines(cost, min(ends), max(ends), color="0.6", linewidth=0.9, linestyle=":", zorder=0)
    for p in points:
        color, marker, _ = STYLES[p.row.record.kind]
        shifted = axes.transData + ScaledTranslation(p.shift / 72, 0, axes.figure.dpi_scale_trans)
        drawn = axes.errorbar(
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
        mark(drawn, p.row.name, _values(p, kind))
        if p.other is not None:
            line = axes.plot([p.x, p.other], [p.y, p.y], color=color, linewidth=0.8, alpha=0.6, zorder=1)
            mark(line, p.row.name)
            end = axes.plot(p.other, p.y, color=color, marker=marker, markersize=MARKER, mfc="white")
            mark(end, p.row.name, f"{p.row.name}: {formats.seconds(p.other)} s per minute with {extractor}")


def _values(point: Point, kind: str) -> str:
    """Return what is shown of a point under the pointer."""
    spread = f" ± {point.sd:.1f}" if point.sd else ""
    cost = {
        "minute": f", {formats.seconds(point.x)} s per minute of video",
        "latency": f", {point.x:.1f} ms",
        "index": "",
    }[kind]
    return f"{point.row.name}: average mAP {point.y:.1f}{spread}{cost}"


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
    """Draw the names of the rows next to their points; they may end beside the axes."""
    labelled = [
        LabelledPoint(
            _name(p.row),
            p.x,
            p.y,
            p.sd,
            color=STYLES[p.row.record.kind][0],
            weight="bold" if p.front else "normal",
            shift=p.shift,
            end=p.other,
        )
        for p in points
    ]
    right = float(axes.figure.bbox.x1) - 4 * axes.figure.dpi / 72
    for p, text in zip(points, label_points(axes, labelled, right, fontsize=FONT), strict=True):
        mark([text, text.arrow_patch], p.row.name)


FIGURES = (FigureDeclaration("figure", "Accuracy", "Average mAP against cost.", figure, folder=""),)
