"""Figure of the cost of one minute of video per architecture and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tal_bench.report.common import formats
from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.plot_style import (
    BLUE,
    GREEN,
    GREY,
    PINK,
    RED,
    SMALL,
    WIDTH,
    caption,
    legend_above,
    name,
    new_figure,
    plain,
)
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.columns import alternatives, steps
from tal_bench.results.columns import extractor_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = {
    "decode": (GREY, ""),
    "flow": (RED, "///"),
    "backbone": (BLUE, ""),
    "detector": (GREEN, "..."),
}
"""Colour and hatching of each step; the hatching distinguishes steps in greyscale."""
OTHER_STYLE = (PINK, "xxx")
NAMES = {"decode": "decoding", "flow": "optical flow", "backbone": "feature networks", "detector": "detector"}


def cost_figure(study: ReportData) -> Figure | None:
    """Draw a stacked bar per architecture in one panel per flow extractor; None if costs are missing."""
    groups = _architectures(study)
    if not groups:
        return None
    others = [a for a in alternatives(study) if any(row.minute_with(a) != row.minute for row, _ in groups)]
    drawing = new_figure(WIDTH, 0.32 * len(groups) + 2.1)
    panels = drawing.subplots(1, 1 + len(others), sharey=True, squeeze=False)[0]
    for axes, alternative in zip(panels, ["", *others], strict=True):
        _bars(axes, [row for row, _ in groups], steps(study), alternative)
    panels[0].set_yticks(range(len(groups)), [label for _, label in groups])
    panels[0].set_ylim(len(groups) - 0.45, -0.55)
    handles, names = panels[0].get_legend_handles_labels()
    legend_above(drawing, handles, names, len(names))
    devices = sorted({f"{row.cost.device}, {row.cost.precision}" for row, _ in groups if row.cost})
    lines = [f"From video file to segments, measured once per architecture ({'; '.join(devices)})."]
    if len(panels) > 1:
        lines.append("Panels have different scales.")
    title = f"{notes.title(study)}: cost of a minute of video"
    caption(drawing, title, lines, notes.source(study), space="\n")
    return drawing


def _architectures(study: ReportData) -> list[tuple[Row, str]]:
    """Return one row per measured architecture with a label of all rows that share it."""
    shared: dict[str, list[Row]] = {}
    for row in study.rows:
        if row.cost is not None and row.minute:
            shared.setdefault(row.cost.key, []).append(row)
    return [(rows[0], _label(rows)) for rows in shared.values()]


def _label(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return name(rows[0].name)
    if all(row.record.kind == "student" for row in rows):
        return f"{len(rows)} students ({name(rows[0].record.model)})"
    return name(", ".join(row.name for row in rows))


def _bars(axes: Axes, rows: Sequence[Row], names: Sequence[str], alternative: str) -> None:
    """Draw the bars of a panel, with `alternative` (if not empty) instead of the step that it replaces."""
    replaced = alternative.partition("_")[0]
    left = [0.0] * len(rows)
    for step in names:
        values = []
        for row in rows:
            assert row.cost is not None
            value = row.cost.minute.get(step, 0.0)
            if step == replaced and value:
                value = row.cost.minute_alternatives.get(alternative, value)
            values.append(value)
        color, hatch = STYLES.get(step, OTHER_STYLE)
        bars = axes.barh(
            range(len(rows)),
            values,
            left=left,
            height=0.72,
            color=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.4,
            label=NAMES.get(step, step),
        )
        for row, bar, value in zip(rows, bars, values, strict=True):
            mark(bar, values=f"{row.record.model}: {NAMES.get(step, step)} {formats.seconds(value)} s")
        left = [a + b for a, b in zip(left, values, strict=True)]
    for index, total in enumerate(left):
        axes.text(total, index, f" {formats.seconds(total)} s", va="center", fontsize=SMALL)
    axes.set_xlim(0, 1.22 * max(left))
    axes.set_xlabel("seconds per minute of video")
    axes.set_title(f"with {extractor_name(alternative)}" if alternative else "as run", loc="left", fontsize=9)
    plain(axes, grid="x")
    axes.tick_params(axis="y", length=0)


def _has_minutes(study: ReportData) -> bool:
    return any(row.minute for row in study.rows)


FIGURES = (
    FigureDeclaration(
        "cost", "Cost", "Seconds per minute of video for each step.", cost_figure, _has_minutes
    ),
)
