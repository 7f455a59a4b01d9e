"""Table and figure of the Pareto fronts of a search with several objectives.

The left panel shows all trials of the search on validation data, the right panel the members of the fronts on
test data, which the search does not use.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from tal_bench.report.common import formats
from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.markup import code, escape_markdown
from tal_bench.report.common.markup import markdown as as_markdown
from tal_bench.report.common.plot_style import CAPTION_DENSITY, TINY, TITLE_DENSITY, name
from tal_bench.report.common.point_labels import LabelledPoint, label_points
from tal_bench.report.common.tables import Cell, csv_table, markdown_table, plain_table
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData, Row
from tal_bench.report.study.columns import as_column
from tal_bench.report.study.drawings.cost_scatter import FONT, MARKER
from tal_bench.results.columns import cost_columns
from tal_bench.results.records import SearchRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
SIZE = (10.5, 4.8)
LOG_FROM = 3.0
"""Ratio of the largest to the smallest cost on the fronts from which the axis is logarithmic."""
LABELS: dict[str, Any] = {
    "fontsize": FONT - 1,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5},
}
"""Style of the labels, which may lie above trials."""
MAX_LABELS = 14
"""Maximum number of members for which the figure has labels."""
COSTS = {column.key: as_column(column) for column in cost_columns(())}
"""Columns of costs by key."""
AXES = {"gmacs": "GMACs of the student", "params": "Parameters of the student (M)"}


@dataclass(frozen=True)
class Member:
    """A student on a front.

    Attributes:
        search: Search that found the student.
        row: Row of the student.
        size: Size as given by the name of the row.
        values: Values on validation by objective; parameters in millions.
    """

    search: SearchRecord
    row: Row
    size: str
    values: dict[str, float]

    def line(self) -> dict[str, Any]:
        """Return the unrounded numbers of the member by column."""
        settings = {f"setting/{k}": v for k, v in self.row.record.settings.items()}
        return {
            "search": self.search.name,
            "row": self.row.name,
            "size": self.size,
            **{f"validation_{k}" if k == "map" else k: v for k, v in self.values.items()},
            "test_map_mean": self.row.mean(),
            "test_map_sd": self.row.sd(),
            "seeds": len(self.row.results),
            **{key: COSTS[key].value(self.row) for key in ("params", "latency_ms", "minute")},
            **settings,
        }


def values(search: SearchRecord, hash_: str) -> dict[str, float]:
    """Return the values of a trial by objective; parameters in millions."""
    raw = dict(zip(search.objective, search.values[search.trials.index(hash_)], strict=False))
    return {name: value / 1e6 if name == "params" else value for name, value in raw.items()}


def members(study: ReportData) -> list[Member]:
    """Return the tested members of all fronts, each in the order of validation mAP."""
    rows = {row.name: row for row in study.rows}
    return [
        Member(search, rows[name], name.removeprefix(search.name).strip() or name, values(search, hash_))
        for search in study.record.searches
        for name, hash_ in zip(search.members, search.front, strict=False)
        if name in rows
    ]


def markdown(study: ReportData) -> str:
    """Return the fronts as Markdown."""
    objective = study.record.spec.objective
    headings = {"map": "Validation mAP ↑"} | {key: column.heading.line for key, column in COSTS.items()}
    shown = ("latency_ms", "minute")
    headers = [
        "Size",
        *(headings[name] for name in objective),
        "Test mAP ↑",
        *(headings[key] for key in shown),
    ]
    lines: list[list[str | Cell]] = [
        [
            m.search.name,
            Cell(m.size, code=True),
            *(formats.number(m.values[name], 1 if name == "map" else 3) for name in objective),
            formats.spread(m.row.mean(), m.row.sd()),
            *(COSTS[key].show(m.row).main for key in shown),
        ]
        for m in members(study)
    ]
    table = markdown_table(plain_table(["Search", *headers], lines, text=2))
    title = f"{study.record.spec.name}: {', '.join(objective)} on {study.record.dataset}"
    notes_below = "\n".join(f"- {as_markdown(line)}" for line in explanation(study))
    return "\n\n".join([f"# {escape_markdown(title)}", table, notes_below]) + "\n"


def explanation(study: ReportData) -> list[str]:
    """Return notes that explain the table of fronts."""
    fronts = [
        f"{code(s.name)}: {len(s.front)} of {len(s.trials)} trials are on the front"
        for s in study.record.searches
    ]
    return [
        *fronts,
        "For a member, no other trial had both a higher mAP on validation and a lower cost. Members are "
        "retrained on all training videos and tested once per seed. Test videos were not used for selection, "
        "so mAP on test need not increase with cost.",
        "Sizes: w width, d blocks before the first stride, k kernel size of embedding and heads, h width of "
        "the hallucination.",
    ]


def csv(study: ReportData) -> str:
    """Return the unrounded numbers as CSV with one line per member."""
    return csv_table(pd.DataFrame([m.line() for m in members(study)]))


def tables(study: ReportData) -> dict[str, str]:
    """Return the tables of the fronts by file name; empty if there are no fronts."""
    return {"pareto.md": markdown(study), "pareto.csv": csv(study)} if members(study) else {}


def figure(study: ReportData) -> Figure:
    """Draw mAP on validation (left) and test (right) against the first cost among the objectives."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    cost = next(objective for objective in study.record.spec.objective if objective != "map")
    drawing = Figure(figsize=SIZE, dpi=150, layout="constrained")
    FigureCanvasAgg(drawing)
    validation, test = drawing.subplots(1, 2, sharex=True)
    students = members(study)
    styles: list[dict[str, Any]] = [
        {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        for index in range(len(study.record.searches))
    ]
    for search, style in zip(study.record.searches, styles, strict=True):
        front = [m for m in students if m.search.name == search.name]
        _draw_search(validation, search, cost, style)
        if front:
            _draw_members(test, front, cost, style)
    for axes, title in (
        (validation, "validation: all trials and the front"),
        (test, "test: the front"),
    ):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(AXES[cost])
        axes.set_ylabel("Average mAP (%)")
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.16, y=0.1)
    _scale(test, students, cost)
    if len(study.record.searches) > 1:
        handles = [Line2D([], [], linewidth=0.7, markersize=MARKER, **style) for style in styles]
        names = [name(search.name) for search in study.record.searches]
        validation.legend(handles, names, frameon=False, fontsize=8, loc="lower right")
    seeds = [len(m.row.results) for m in students]
    title = name(f"{study.record.spec.name}: {study.record.dataset}", int(SIZE[0] * TITLE_DENSITY))
    drawing.suptitle(title, x=0.01, ha="left", fontsize=11)
    note = (
        "w width, d blocks before the first stride, k kernel size, h width of the hallucination. "
        + notes.bars(seeds)
        + _teachers(study)
    )
    lines = textwrap.wrap(note, int(SIZE[0] * CAPTION_DENSITY))
    drawing.supxlabel("\n".join(lines), fontsize=TINY, color="0.35", x=0.01, ha="left")
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    if len(students) <= MAX_LABELS:
        tuned = [LabelledPoint(name(m.size), m.values[cost], m.values["map"]) for m in students]
        tested = [
            LabelledPoint(name(m.size), m.values[cost], m.row.mean() or 0.0, m.row.sd() or 0.0)
            for m in students
        ]
        label_points(validation, tuned, **LABELS)
        label_points(test, tested, **LABELS)
    return drawing


def _draw_search(axes: Axes, search: SearchRecord, cost: str, style: dict[str, str]) -> None:
    """Draw all trials with transparency, and the front as a step line."""
    trials = [values(search, h) for h, v in zip(search.trials, search.values, strict=True) if v]
    axes.scatter(
        [v[cost] for v in trials],
        [v["map"] for v in trials],
        s=14,
        color=style["color"],
        marker=style["marker"],
        alpha=0.3,
        linewidths=0,
    )
    front = [values(search, h) for h in search.front]
    axes.plot(
        [v[cost] for v in front],
        [v["map"] for v in front],
        drawstyle="steps-post",
        linewidth=0.7,
        markersize=MARKER,
        **style,  # type: ignore[arg-type]
    )


def _draw_members(axes: Axes, front: Sequence[Member], cost: str, style: dict[str, str]) -> None:
    axes.errorbar(
        [m.values[cost] for m in front],
        [m.row.mean() or 0.0 for m in front],
        yerr=[m.row.sd() or 0.0 for m in front],
        linestyle="",
        elinewidth=1.1,
        capsize=2.5,
        markersize=MARKER,
        **style,  # type: ignore[arg-type]
    )


def _scale(axes: Axes, students: Sequence[Member], cost: str) -> None:
    """Set a logarithmic cost axis if costs differ by a factor of at least `LOG_FROM`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = [m.values[cost] for m in students]
    if xs and min(xs) > 0 and max(xs) >= LOG_FROM * min(xs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _teachers(study: ReportData) -> str:
    """Return a sentence on the mAP of the teachers, which are outside the axes."""
    teachers = [
        f"{name(row.name)} {formats.number(row.mean())}"
        for row in study.rows
        if row.record.kind == "teacher" and row.mean() is not None
    ]
    return f" Teachers on test: {', '.join(teachers)}." if teachers else ""


FIGURES = (
    FigureDeclaration(
        "pareto",
        "Accuracy",
        "Fronts of the search on validation and test data.",
        figure,
        lambda study: bool(members(study)),
        folder="",
    ),
)
