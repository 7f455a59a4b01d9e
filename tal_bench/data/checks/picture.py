"""Figure of a dataset's labels: lengths of segments, segments per class and coverage of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tal_bench.data.annotations import AnnotatedVideo
from tal_bench.data.checks.statistics import covered
from tal_bench.system.fonts import image_file
from tal_bench.system.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Palette of Okabe and Ito."""
SHOWN_CLASSES = 30
"""Number of classes up to which all are shown, else the most frequent ones, so that names stay legible."""
NAME_LENGTH = 26
ROW = 0.24
"""Height of a class in inches."""
SIZE = (10.0, 5.2)
DPI = 120
TITLE_LENGTH = 60
STEPS: dict[str, Any] = {"element": "step", "common_norm": False, "alpha": 0.25, "legend": False}
FORMATS = (".png", ".svg", ".pdf")

Parts = Mapping[str, Sequence[AnnotatedVideo]]


def picture(name: str, parts: Parts, classes: Sequence[str], suffix: str = ".png") -> bytes:
    """Draw the labels of a dataset.

    Args:
        name: Name of the dataset.
        parts: Videos of each split, for at most eight splits; empty splits are not shown.
        classes: Class names in the order of their indices.
        suffix: File suffix, one of `FORMATS`.

    Returns:
        Content of the image file.
    """
    shown = {part: videos for part, videos in parts.items() if videos}
    return image_file(lambda: figure(name, shown, classes), suffix, "whitegrid")


def figure(name: str, parts: Parts, classes: Sequence[str]) -> Figure:
    """Draw the three panels: lengths above coverage on the left, classes on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = dict(zip(parts, COLOURS, strict=False))
    counts = class_counts(parts, classes)
    bars = counts["class"].nunique()
    drawing = Figure(figsize=(SIZE[0], max(SIZE[1], ROW * bars + 1.4)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    grid = drawing.add_gridspec(2, 2)
    left, below = drawing.add_subplot(grid[0, 0]), drawing.add_subplot(grid[1, 0])
    _lengths(left, parts, colours)
    _coverage(below, parts, colours)
    right = drawing.add_subplot(grid[:, 1])
    _classes(right, counts, colours)
    right.set_title(
        f"Most frequent {bars} of {len(classes)} classes" if bars < len(classes) else "Segments of each class"
    )
    drawing.suptitle(shortened(name, TITLE_LENGTH), x=0.02, ha="left")
    _legend(drawing, colours)
    return drawing


def class_counts(parts: Parts, classes: Sequence[str]) -> pd.DataFrame:
    """Return the columns class, part and segments of the most frequent classes, in descending order."""
    counts = {
        part: np.bincount(np.concatenate([v.labels for v in videos]), minlength=len(classes))
        for part, videos in parts.items()
    }
    total = np.sum([np.zeros(len(classes), dtype=np.int64), *counts.values()], axis=0)
    shown = np.argsort(-total, kind="stable")[:SHOWN_CLASSES]
    names = _short([classes[k] for k in shown])
    rows: list[tuple[str, str, int]] = []
    for part, number in counts.items():
        rows += [(label, part, int(number[k])) for label, k in zip(names, shown, strict=True)]
    return pd.DataFrame(rows, columns=["class", "part", "segments"])


def _short(names: Sequence[str]) -> list[str]:
    """Shorten names to one line of bounded length, and keep them distinct."""
    short: list[str] = []
    for name in names:
        text = shortened(name, NAME_LENGTH)
        same = sum(other.rstrip("′") == text for other in short)
        short.append(text + "′" * same)
    return short


def _lengths(axes: Axes, parts: Parts, colours: Mapping[str, str]) -> None:
    import seaborn as sns
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rows = [
        (part, length)
        for part, videos in parts.items()
        for video in videos
        for length in np.diff(video.segments, axis=1)[:, 0]
    ]
    axes.set_title("Lengths of segments")
    if not rows:
        _empty(axes, "no segments")
        return
    table = pd.DataFrame(rows, columns=["part", "seconds"])
    edges = _log_edges(table["seconds"].to_numpy())
    sns.histplot(
        table, x="seconds", hue="part", palette=dict(colours), bins=edges, stat="percent", **STEPS, ax=axes
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if edges[-1] > 1000 * edges[0] else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="seconds", ylabel="share of the split [%]")


def _log_edges(values: np.ndarray[Any, np.dtype[np.float64]], bins: int = 30) -> list[float]:
    low, high = float(values.min()) / 1.1, float(values.max()) * 1.1
    edges: list[float] = np.geomspace(low, high, bins + 1).tolist()
    return edges


def _coverage(axes: Axes, parts: Parts, colours: Mapping[str, str]) -> None:
    import seaborn as sns

    rows = [
        (part, 100 * min(covered(video.segments)[0] / video.duration, 1.0))
        for part, videos in parts.items()
        for video in videos
    ]
    axes.set_title("Share of a video covered by actions")
    if not rows:
        _empty(axes, "no videos")
        return
    table = pd.DataFrame(rows, columns=["part", "covered"])
    edges = np.linspace(0.0, 100.0, 21).tolist()
    sns.histplot(
        table, x="covered", hue="part", palette=dict(colours), bins=edges, stat="percent", **STEPS, ax=axes
    )
    axes.set(xlim=(0, 100), xlabel="covered [%]", ylabel="share of the split [%]")


def _classes(axes: Axes, counts: pd.DataFrame, colours: Mapping[str, str]) -> None:
    import seaborn as sns

    if counts.empty:
        _empty(axes, "no classes")
        return
    bars = {"errorbar": None, "saturation": 1, "legend": False}
    sns.barplot(counts, y="class", x="segments", hue="part", palette=dict(colours), **bars, ax=axes)
    axes.set(xlabel="segments", ylabel="")


def _legend(drawing: Figure, colours: Mapping[str, str]) -> None:
    """Add one legend for all panels."""
    from matplotlib.patches import Patch

    names = _short(list(colours))
    handles = [Patch(color=colour) for colour in colours.values()]
    drawing.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)


def _empty(axes: Axes, text: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
