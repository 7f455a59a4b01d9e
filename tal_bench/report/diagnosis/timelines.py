"""Timelines of the videos with the largest gains and losses of one row compared with another."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np

from tal_bench.evaluation.diagnosis import CATEGORIES, Diagnosis
from tal_bench.evaluation.matching import Floats
from tal_bench.report.common.plot_style import RC, SMALL, name, new_figure
from tal_bench.report.diagnosis.figures import STYLES, caption, legend_above
from tal_bench.report.diagnosis.summary import DiagnosisReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIOU = 0.5
"""tIoU threshold of the categories; the closest available threshold is used."""
DETECTIONS_PER_TRUTH = 1.5
"""Number of detections shown per ground truth of a video, those with the highest scores."""
WIDTH = 11.0
TRUTH = "truth"


@dataclass(frozen=True)
class Bar:
    """A segment on a timeline.

    Attributes:
        start: Start in seconds.
        end: End in seconds.
        label: Class of the segment.
        category: Category of a detection; None for ground truth.
        line: Line within the lane.
    """

    start: float
    end: float
    label: str
    category: str | None
    line: int


def select_videos(report: DiagnosisReport, count: int) -> list[tuple[str, float]]:
    """Return up to `count` videos with the largest gains and up to `count` with the largest losses."""
    change = report.changes()
    gained, lost = change[change > 0][:count], change[change < 0][-count:]
    return [(str(video), float(points)) for part in (gained, lost) for video, points in part.items()]


def timelines_figure(report: DiagnosisReport, count: int = 3) -> Figure | None:
    """Draw ground truth and the detections of `against` and `compared`; None if no video differs."""
    import matplotlib
    from matplotlib.patches import Patch

    videos = select_videos(report, count)
    if report.compared is None or not videos:
        return None
    lanes = [_lanes(report, video) for video, _ in videos]
    heights = [1.1 + sum(_lines(bars) for _, bars in video_lanes) for video_lanes in lanes]
    drawing = new_figure(WIDTH, 0.17 * sum(heights) + 0.42 * len(videos) + 1.5)
    panels = drawing.subplots(len(videos), 1, squeeze=False, height_ratios=heights)[:, 0]
    with matplotlib.rc_context(RC):
        for axes, (video, points), video_lanes in zip(panels, videos, lanes, strict=True):
            _draw(axes, video_lanes)
            axes.set_title(_title(report, video, points, video_lanes), loc="left", fontsize=SMALL)
        handles = [Patch(facecolor=color, hatch=hatch) for color, hatch in STYLES.values()]
    panels[-1].set_xlabel("seconds", fontsize=SMALL)
    legend_above(drawing, handles, list(STYLES))
    compared = f"{name(report.compared)} against {name(report.against)}"
    tiou = report.source.thresholds[_tiou_index(report)]
    notes = [
        f"Videos with the largest gains and losses of {compared}: change "
        "of the average precision within the video, all classes in one ranking. For G ground truths, the "
        f"best {DETECTIONS_PER_TRUTH:g} · G detections are shown, of the seed whose change is closest to the "
        f"mean. Categories at tIoU {tiou:g}; letters are classes."
    ]
    caption(drawing, report, compared, notes, legend=True)
    return drawing


def _tiou_index(report: DiagnosisReport) -> int:
    return int(np.argmin(np.abs(np.asarray(report.source.thresholds) - TIOU)))


def _runs(report: DiagnosisReport, video: str) -> list[tuple[str, Diagnosis]]:
    """Return the runs to show for the two rows, of the shared seed whose change is closest to the mean."""
    values = report.videos.loc[report.videos["video"] == video, "ap"]
    ap = dict(zip(report.runs, values.tolist(), strict=True))  # the table has one line per run, in order
    names = (report.against, report.compared or "")
    first, second = ([seed for key, seed in ap if key == row] for row in names)
    pairs = [(seed, seed) for seed in first if seed in second] or [(first[0], second[0])]
    change = [ap[names[1], b] - ap[names[0], a] for a, b in pairs]
    best = pairs[int(np.argmin(np.abs(np.asarray(change) - np.mean(change))))]
    return [(row, report.runs[row, seed]) for row, seed in zip(names, best, strict=True)]


def _lanes(report: DiagnosisReport, video: str) -> list[tuple[str, list[Bar]]]:
    """Return name and bars of each lane of a video, from top to bottom."""
    runs = _runs(report, video)
    truth = runs[0][1].truth
    part = truth[truth["video"] == video]
    segments = part[["start", "end"]].to_numpy(dtype=np.float64)
    lanes = [(TRUTH, _pack(segments, part["label"].tolist(), [None] * len(part)))]
    count = int(np.ceil(DETECTIONS_PER_TRUTH * len(part)))
    for row, run in runs:
        matches = run.matches
        detections = np.flatnonzero(matches.video == matches.videos.index(video))
        best = detections[np.argsort(-matches.score[detections], kind="stable")][:count]
        labels = [matches.classes[k] for k in matches.label[best]]
        categories = [CATEGORIES[k] for k in run.category[_tiou_index(report), best]]
        lanes.append((row, _pack(run.segment[best], labels, categories)))
    return lanes


def _pack(segments: Floats, labels: Sequence[str], categories: Sequence[str | None]) -> list[Bar]:
    """Distribute segments over the fewest lines without overlap, in the order of their start."""
    ends: list[float] = []
    bars = []
    for k in np.argsort(segments[:, 0], kind="stable"):
        start, end = segments[k].tolist()
        line = next((n for n, last in enumerate(ends) if last <= start), len(ends))
        ends[line : line + 1] = [end]
        bars.append(Bar(start, end, str(labels[k]), categories[k], line))
    return bars


def _lines(bars: Sequence[Bar]) -> int:
    return 1 + max((bar.line for bar in bars), default=0)


def _letters(lanes: Sequence[tuple[str, Sequence[Bar]]]) -> dict[str, str]:
    """Return a letter (or a number after Z) per class that occurs, beginning with the ground truth."""
    labels = list(dict.fromkeys(bar.label for _, bars in lanes for bar in bars))
    return {
        label: ascii_uppercase[k] if k < len(ascii_uppercase) else str(k) for k, label in enumerate(labels)
    }


def _draw(axes: Axes, lanes: Sequence[tuple[str, Sequence[Bar]]]) -> None:
    letters = _letters(lanes)
    end = max(bar.end for _, bars in lanes for bar in bars)
    top, ticks = 0.0, []
    for lane, bars in lanes:
        for bar in bars:
            color, hatch = STYLES[bar.category] if bar.category else ("white", "")
            y, length = top + bar.line + 0.5, bar.end - bar.start
            width = 0.6 if bar.category is None else 0.0
            axes.barh(
                y, length, 0.84, bar.start, facecolor=color, hatch=hatch, edgecolor="black", linewidth=width
            )
            if length > 0.012 * end:
                axes.text(
                    bar.start + length / 2,
                    y,
                    letters[bar.label],
                    ha="center",
                    va="center_baseline",
                    fontsize=6,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.75},
                )
        ticks.append((top + _lines(bars) / 2, lane))
        top += _lines(bars)
        axes.axhline(top, color="0.8", linewidth=0.6, zorder=0)
    axes.set_yticks([y for y, _ in ticks], [name(lane) for _, lane in ticks])
    axes.set(xlim=(0, 1.005 * end), ylim=(top, 0))
    axes.tick_params(labelsize=SMALL, axis="both")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _title(
    report: DiagnosisReport, video: str, points: float, lanes: Sequence[tuple[str, Sequence[Bar]]]
) -> str:
    letters = ", ".join(f"{letter} {name(label)}" for label, letter in _letters(lanes).items())
    before = report.videos.query("video == @video and row == @report.against")["ap"].mean()
    change = f"AP {before:.0f} → {before + points:.0f} ({points:+.1f})"
    return "\n".join(textwrap.wrap(f"{name(video)}: {change} · {letters}", int(WIDTH * 17)))
