"""Figure of detections on a time axis, with thumbnails of the video and ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tal_bench.report.common.plot_style import name
from tal_bench.system.fonts import image_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's palette."""
MAX_LANES = 8
"""Maximum number of labels shown per video; labels of the ground truth are always shown."""
WIDTH, THUMBNAILS, LANE, MARGIN = 11.0, 0.85, 0.26, 0.75
"""Width of the figure, and height of thumbnails, of a lane, and of margins per video, in inches."""
DPI = 120
VIDEO_LENGTH, LABEL_LENGTH = 100, 24
"""Maximum length of the name of a video and of a label."""
MIN_OPACITY = 0.15
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Panel:
    """Content of the panel of one video.

    Attributes:
        video: Name of the video.
        duration: Duration in seconds.
        thumbnails: RGB frames [h, w, 3] at regular intervals.
        detections: Table with columns start, end (seconds), label, score.
        truth: Table with columns start, end, label; None without ground truth.
    """

    video: str
    duration: float
    thumbnails: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]
    detections: pd.DataFrame
    truth: pd.DataFrame | None = None

    def labels(self) -> list[str]:
        """Return the labels to show, in the order of their best scores."""
        best = self.detections.groupby("label")["score"].max().sort_values(ascending=False)
        known = [] if self.truth is None else self.truth["label"].unique().tolist()
        shown = list(dict.fromkeys([*known, *best.index]))[: max(MAX_LANES, len(known))]
        return sorted(shown, key=lambda label: -float(best.get(label, 0.0)))


def timeline(panels: Sequence[Panel], suffix: str = ".png") -> bytes:
    """Draw one panel per video and return the content of the image file.

    The opacity of a detection is its score relative to the highest score of the video. Ground truth is
    outlined below the detections of its label.

    Args:
        panels: Panels of the videos, at least one.
        suffix: Image format, one of `FORMATS`.
    """
    return image_file(lambda: _figure(panels), suffix, "ticks")


def _figure(panels: Sequence[Panel]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lanes = [max(1, len(panel.labels())) for panel in panels]
    heights = [part for count in lanes for part in (THUMBNAILS, count * LANE)]
    height = sum(heights) + MARGIN * len(panels)
    drawing = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(drawing)
    rows = drawing.subfigures(len(panels), 1, squeeze=False, height_ratios=[
        THUMBNAILS + count * LANE + MARGIN for count in lanes
    ])[:, 0]  # fmt: skip
    labels = sorted({label for panel in panels for label in panel.labels()})
    colours = {label: COLOURS[k % len(COLOURS)] for k, label in enumerate(labels)}
    for row, panel, count in zip(rows, panels, lanes, strict=True):
        strip, axes = row.subplots(2, 1, height_ratios=[THUMBNAILS, count * LANE], sharex=True)
        _draw_thumbnails(strip, panel)
        _draw_lanes(axes, panel, colours)
    return drawing


def _draw_thumbnails(axes: Axes, panel: Panel) -> None:
    axes.set_title(f"{name(panel.video, VIDEO_LENGTH)}   {panel.duration:.1f} s", loc="left", fontsize=9.5)
    step = panel.duration / max(1, len(panel.thumbnails))
    for k, picture in enumerate(panel.thumbnails):
        axes.imshow(
            picture, extent=(k * step, (k + 0.97) * step, 0, 1), aspect="auto", interpolation="bilinear"
        )
    axes.set(xlim=(0, panel.duration), ylim=(0, 1), yticks=[])
    axes.tick_params(bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)


def _draw_lanes(axes: Axes, panel: Panel, colours: dict[str, str]) -> None:
    labels = panel.labels()
    best = float(panel.detections["score"].max()) if len(panel.detections) else 1.0
    for lane, label in enumerate(labels):
        shown = panel.detections[panel.detections["label"] == label]
        height, y = (0.8, lane - 0.4) if panel.truth is None else (0.46, lane - 0.42)
        for start, end, score in shown.sort_values("score")[["start", "end", "score"]].itertuples(
            index=False
        ):
            opacity = max(MIN_OPACITY, score / best)
            axes.broken_barh([(start, end - start)], (y, height), color=colours[label], alpha=opacity, lw=0)
        if panel.truth is not None:
            for start, end in panel.truth.loc[panel.truth["label"] == label, ["start", "end"]].itertuples(
                index=False
            ):
                axes.broken_barh(
                    [(start, end - start)], (lane + 0.1, 0.3), facecolor="white", edgecolor="0.15", lw=1.0
                )
    if not labels:
        axes.text(0.5, 0.5, "no detections", ha="center", va="center", transform=axes.transAxes)
    axes.set(xlim=(0, panel.duration), ylim=(max(1, len(labels)) - 0.45, -0.55))
    axes.set_yticks(range(len(labels)), [name(label, LABEL_LENGTH) for label in labels])
    axes.tick_params(axis="y", length=0)
    truth_note = "outlined: ground truth; " if panel.truth is not None else ""
    axes.set_xlabel(
        f"seconds   ({truth_note}opaque: score {best:.2f})", loc="right", fontsize=7.5, color="0.35"
    )
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
