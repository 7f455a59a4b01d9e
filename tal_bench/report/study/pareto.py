"""The fronts of a search with several objectives: a table, and a figure with every trial and every member.

The left half is what the search saw, on validation; the right half what its members do on the test videos,
which chose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from tal_bench.report.common.label_placement import Box, Label, place
from tal_bench.report.common.plot_style import rendered
from tal_bench.report.study import notes as words
from tal_bench.report.study.collect import Row, Study
from tal_bench.report.study.cost_scatter import FONT, LEADER, MARKER
from tal_bench.results.records import SearchRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
SIZE = (10.5, 4.8)
LOG_FROM = 3.0
"""Ratio of the largest to the smallest cost on the fronts from which on the axis is logarithmic."""
LABELLED = 14
"""Members that the figure names; more would hide each other."""
HEADERS = {"map": "Validation mAP ↑", "gmacs": "GMACs ↓", "params": "Params (M) ↓"}
AXES = {"gmacs": "GMACs of the student", "params": "Parameters of the student (M)"}


@dataclass(frozen=True)
class Member:
    """A student on a front.

    Attributes:
        search: that found it.
        row: of the table.
        size: as its name says it.
        values: on validation, by objective; parameters in millions.
    """

    search: SearchRecord
    row: Row
    size: str
    values: dict[str, float]

    def line(self) -> dict[str, Any]:
        """Raw numbers."""
        cost = self.row.cost
        settings = {f"setting/{k}": v for k, v in self.row.record.settings.items()}
        return {
            "search": self.search.name,
            "row": self.row.name,
            "size": self.size,
            **{f"validation_{k}" if k == "map" else k: v for k, v in self.values.items()},
            "test_map_mean": self.row.mean(),
            "test_map_sd": self.row.sd(),
            "seeds": len(self.row.results),
            "params": cost.params if cost else None,
            "latency_ms": cost.latency_ms["median"] if cost else None,
            "minute": self.row.minute,
            **settings,
        }


def values(search: SearchRecord, hash_: str) -> dict[str, float]:
    """What a trial reached, by objective; parameters in millions."""
    found = dict(zip(search.objective, search.values[search.trials.index(hash_)], strict=False))
    return {name: value / 1e6 if name == "params" else value for name, value in found.items()}


def members(study: Study) -> list[Member]:
    """Of all fronts, each in the order of the mAP on validation, as far as they were tested."""
    rows = {row.name: row for row in study.rows}
    return [
        Member(search, rows[name], name.removeprefix(search.name).strip() or name, values(search, hash_))
        for search in study.record.searches
        for name, hash_ in zip(search.members, search.front, strict=False)
        if name in rows
    ]


def markdown(study: Study) -> str:
    """The fronts as Markdown."""
    found = members(study)
    objective = study.record.spec.objective
    lines = [
        ["Search", "Size", *(HEADERS[name] for name in objective), "Test mAP ↑", "Latency (ms) ↓", "s/min ↓"]
    ]
    lines.append(["---", "---", *["---:"] * (len(lines[0]) - 2)])
    for m in found:
        shown = [words.number(m.values[name], 1 if name == "map" else 3) for name in objective]
        latency = m.row.cost.latency_ms["median"] if m.row.cost else None
        lines.append(
            [
                m.search.name,
                f"`{m.size}`",
                *shown,
                words.spread(m.row.mean(), m.row.sd()),
                words.number(latency),
                words.seconds(m.row.minute),
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = [f"# {study.record.spec.name}: {', '.join(objective)} on {study.record.dataset}", table]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in explained(study))]) + "\n"


def explained(study: Study) -> list[str]:
    """How to read the fronts."""
    tried = [
        f"`{s.name}`: {len(s.front)} of {len(s.trials)} trials are on the front"
        for s in study.record.searches
    ]
    return [
        *tried,
        "No other trial had both a higher mAP on validation and a lower cost. Test videos chose nothing; "
        "members are retrained on all training videos and tested once per seed, so on test the line need not "
        "rise.",
        "Sizes: w width, d blocks before the first stride, k kernels of embedding and heads, h width inside "
        "the hallucination.",
    ]


def csv(study: Study) -> str:
    """Raw numbers, one line per member."""
    return str(pd.DataFrame([m.line() for m in members(study)]).to_csv(index=False, lineterminator="\n"))


def files(study: Study) -> dict[str, str | bytes]:
    """Name to content of everything that tells of the fronts; empty without any."""
    if not members(study):
        return {}
    drawn = {f"pareto{suffix}": content for suffix, content in rendered(figure(study)).items()}
    return {"pareto.md": markdown(study), "pareto.csv": csv(study), **drawn}


def figure(study: Study) -> Figure:
    """Validation on the left, test on the right, over the first cost among the objectives."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cost = next(name for name in study.record.spec.objective if name != "map")
    drawing = Figure(figsize=SIZE, dpi=150, layout="constrained")
    FigureCanvasAgg(drawing)
    searched, tested = drawing.subplots(1, 2, sharex=True)
    found = members(study)
    for place_, search in enumerate(study.record.searches):
        style = {"color": COLOURS[place_ % len(COLOURS)], "marker": MARKERS[place_ % len(MARKERS)]}
        mine = [m for m in found if m.search.name == search.name]
        _search(searched, search, cost, style)
        if mine:
            _members(tested, mine, cost, style)
    for axes, title in (
        (searched, "on validation: every trial, and the front"),
        (tested, "on test: the front"),
    ):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(AXES[cost])
        axes.set_ylabel("Average mAP (%)")
        axes.grid(True, color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.16, y=0.1)
    _scale(tested, found, cost)
    if len(study.record.searches) > 1:
        searched.legend(frameon=False, fontsize=8, loc="lower right")
    seeds = max((len(m.row.results) for m in found), default=1)
    drawing.suptitle(f"{study.record.spec.name}: {study.record.dataset}", x=0.01, ha="left", fontsize=11)
    drawing.supxlabel(
        "w width, d blocks before the first stride, k kernels, h width inside the hallucination. "
        + (f"Bars: ± standard deviation over {seeds} seeds." if seeds > 1 else "One seed.")
        + _teachers(study),
        fontsize=8,
        color="0.35",
        x=0.01,
        ha="left",
    )
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    if len(found) <= LABELLED:
        _label(searched, [(m.size, m.values[cost], m.values["map"], 0.0) for m in found])
        _label(tested, [(m.size, m.values[cost], m.row.mean() or 0.0, m.row.sd() or 0.0) for m in found])
    return drawing


def _search(axes: Axes, search: SearchRecord, cost: str, style: dict[str, str]) -> None:
    """All trials in pale, the front as steps."""
    every = [values(search, h) for h, v in zip(search.trials, search.values, strict=True) if v]
    axes.scatter(
        [v[cost] for v in every],
        [v["map"] for v in every],
        s=14,
        color=style["color"],
        marker=style["marker"],
        alpha=0.3,
        linewidths=0,
    )
    best = [values(search, h) for h in search.front]
    axes.plot(
        [v[cost] for v in best],
        [v["map"] for v in best],
        drawstyle="steps-post",
        linewidth=0.7,
        markersize=MARKER,
        label=search.name,
        **style,  # type: ignore[arg-type]
    )


def _members(axes: Axes, found: Sequence[Member], cost: str, style: dict[str, str]) -> None:
    axes.errorbar(
        [m.values[cost] for m in found],
        [m.row.mean() or 0.0 for m in found],
        yerr=[m.row.sd() or 0.0 for m in found],
        linestyle="",
        elinewidth=1.1,
        capsize=2.5,
        markersize=MARKER,
        **style,  # type: ignore[arg-type]
    )


def _scale(axes: Axes, found: Sequence[Member], cost: str) -> None:
    """Costs by their ratios, where they differ much: small students stand close together."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    xs = [m.values[cost] for m in found]
    if xs and min(xs) > 0 and max(xs) >= LOG_FROM * min(xs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _teachers(study: Study) -> str:
    """What the teachers reach, in words: they lie far above and far to the right."""
    told = [
        f"{row.name} {words.number(row.mean())}"
        for row in study.rows
        if row.record.kind == "teacher" and row.mean() is not None
    ]
    return f" Teachers on test: {', '.join(told)}." if told else ""


def _label(axes: Axes, points: Sequence[tuple[str, float, float, float]]) -> None:
    """Names beside the points: text, x, y and spread."""
    from matplotlib.text import Text

    unit = axes.figure.dpi / 72
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = []
    for text, x, y, sd in points:
        across, up = axes.transData.transform((x, y))
        reach = max(float(axes.transData.transform((x, y + sd))[1] - up), 4 * unit)
        size = Text(0, 0, text, fontsize=FONT - 1, figure=axes.figure).get_window_extent(renderer)
        labels.append(Label(text, across, up, reach, 3.5 * unit, size.width, 1.1 * size.height))
    frame = axes.get_window_extent(renderer)
    bounds = Box(frame.x0 + 2 * unit, frame.y0, frame.x1, frame.y1)
    for label, at in zip(labels, place(labels, bounds, gap=6 * unit), strict=True):
        axes.annotate(
            label.text,
            xy=(label.x + at.side * 3.5 * unit, label.y),
            xytext=(at.x, at.y),
            xycoords="figure pixels",
            textcoords="figure pixels",
            ha="left" if at.side > 0 else "right",
            va="center",
            fontsize=FONT - 1,
            color="0.1",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            arrowprops=LEADER | {"color": "0.4"},
        )
