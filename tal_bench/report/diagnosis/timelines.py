"""Timelines of the videos that one row improves most and harms most against another."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING

import numpy as np

from tal_bench.evaluation.diagnosis import CATEGORIES, Diagnosis
from tal_bench.evaluation.matching import Floats
from tal_bench.report.common.plot_style import RC, SMALL, new_figure
from tal_bench.report.diagnosis.figures import STYLES, caption, legend_above
from tal_bench.report.diagnosis.summary import Diagnosed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVEL = 0.5
"""tIoU at which detections are coloured, or the nearest there is."""
SHOWN = 1.5
"""Detections shown of a video, as a multiple of its ground truths: the best of them."""
WIDTH = 11.0
TRUTH = "truth"


@dataclass(frozen=True)
class Bar:
    """A segment on a timeline: seconds, label, category (none: ground truth) and its line within the lane."""

    start: float
    end: float
    label: str
    category: str | None
    line: int


def chosen(found: Diagnosed, count: int) -> list[tuple[str, float]]:
    """Videos to show: up to `count` that gain most, then up to `count` that lose most, the worst last."""
    change = found.changes()
    gained, lost = change[change > 0][:count], change[change < 0][-count:]
    return [(str(video), float(points)) for part in (gained, lost) for video, points in part.items()]


def timelines_figure(found: Diagnosed, count: int = 3) -> Figure | None:
    """Ground truth and the detections of `against` and `compared`; none where no video differs."""
    import matplotlib
    from matplotlib.patches import Patch

    videos = chosen(found, count)
    if found.compared is None or not videos:
        return None
    lanes = [_lanes(found, video) for video, _ in videos]
    heights = [1.1 + sum(_lines(bars) for _, bars in each) for each in lanes]
    drawing = new_figure(WIDTH, 0.17 * sum(heights) + 0.42 * len(videos) + 1.5)
    panels = drawing.subplots(len(videos), 1, squeeze=False, height_ratios=heights)[:, 0]
    with matplotlib.rc_context(RC):
        for axes, (video, points), each in zip(panels, videos, lanes, strict=True):
            _draw(axes, each)
            axes.set_title(_title(found, video, points, each), loc="left", fontsize=SMALL)
        handles = [Patch(facecolor=color, hatch=hatch) for color, hatch in STYLES.values()]
    panels[-1].set_xlabel("seconds", fontsize=SMALL)
    legend_above(drawing, handles, list(STYLES))
    level = found.source.thresholds[_level(found)]
    notes = [
        f"Videos in which {found.compared} gains and loses most against {found.against}: change of the "
        "video's own average precision, all its classes in one ranking. Of a video with G ground truths the "
        f"best {SHOWN:g} · G detections are shown, of the seed whose change is nearest to the mean; "
        f"categories at tIoU {level:g}; letters are classes."
    ]
    caption(drawing, found, f"{found.compared} against {found.against}", notes, legend=True)
    return drawing


def _level(found: Diagnosed) -> int:
    return int(np.argmin(np.abs(np.asarray(found.source.thresholds) - LEVEL)))


def _runs(found: Diagnosed, video: str) -> list[tuple[str, Diagnosis]]:
    """The run of each of the two rows to show: of the seeds that both have, the one nearest to the mean."""
    values = found.videos.loc[found.videos["video"] == video, "ap"]
    ap = dict(zip(found.runs, values.tolist(), strict=True))  # a line per run, in their order
    names = (found.against, found.compared or "")
    first, second = ([seed for name, seed in ap if name == row] for row in names)
    pairs = [(seed, seed) for seed in first if seed in second] or [(first[0], second[0])]
    change = [ap[names[1], b] - ap[names[0], a] for a, b in pairs]
    best = pairs[int(np.argmin(np.abs(np.asarray(change) - np.mean(change))))]
    return [(name, found.runs[name, seed]) for name, seed in zip(names, best, strict=True)]


def _lanes(found: Diagnosed, video: str) -> list[tuple[str, list[Bar]]]:
    """Name and bars of each lane of a video, from the top."""
    runs = _runs(found, video)
    truth = runs[0][1].truth
    part = truth[truth["video"] == video]
    segments = part[["start", "end"]].to_numpy(dtype=np.float64)
    lanes = [(TRUTH, _packed(segments, part["label"].tolist(), [None] * len(part)))]
    for name, run in runs:
        matches = run.matches
        here = np.flatnonzero(matches.video == matches.videos.index(video))
        best = here[np.argsort(-matches.score[here], kind="stable")][: int(np.ceil(SHOWN * len(part)))]
        labels = [matches.classes[k] for k in matches.label[best]]
        kinds = [CATEGORIES[k] for k in run.category[_level(found), best]]
        lanes.append((name, _packed(run.segment[best], labels, kinds)))
    return lanes


def _packed(segments: Floats, labels: Sequence[str], kinds: Sequence[str | None]) -> list[Bar]:
    """Bars on as few lines as keep them apart, filled from the top in the order of their start."""
    ends: list[float] = []
    bars = []
    for k in np.argsort(segments[:, 0], kind="stable"):
        start, end = segments[k].tolist()
        line = next((n for n, last in enumerate(ends) if last <= start), len(ends))
        ends[line : line + 1] = [end]
        bars.append(Bar(start, end, str(labels[k]), kinds[k], line))
    return bars


def _lines(bars: Sequence[Bar]) -> int:
    return 1 + max((bar.line for bar in bars), default=0)


def _letters(lanes: Sequence[tuple[str, Sequence[Bar]]]) -> dict[str, str]:
    """A short sign per class that occurs, those of the ground truth first."""
    labels = list(dict.fromkeys(bar.label for _, bars in lanes for bar in bars))
    return {label: _sign(place) for place, label in enumerate(labels)}


def _sign(place: int) -> str:
    return ascii_uppercase[place] if place < len(ascii_uppercase) else str(place)


def _draw(axes: Axes, lanes: Sequence[tuple[str, Sequence[Bar]]]) -> None:
    letters = _letters(lanes)
    end = max(bar.end for _, bars in lanes for bar in bars)
    top, ticks = 0.0, []
    for name, bars in lanes:
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
        ticks.append((top + _lines(bars) / 2, name))
        top += _lines(bars)
        axes.axhline(top, color="0.8", linewidth=0.6, zorder=0)
    axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks])
    axes.set(xlim=(0, 1.005 * end), ylim=(top, 0))
    axes.tick_params(labelsize=SMALL, axis="both")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _title(found: Diagnosed, video: str, points: float, lanes: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    signs = ", ".join(f"{sign} {label}" for label, sign in _letters(lanes).items())
    before = found.videos.query("video == @video and row == @found.against")["ap"].mean()
    change = f"AP {before:.0f} → {before + points:.0f} ({points:+.1f})"
    return "\n".join(textwrap.wrap(f"{video}: {change} · {signs}", int(WIDTH * 17)))
