"""Which unit the times of an annotation file are in, told from where the last segment of each video ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tal_bench.data.findings import Finding

UNIT = "unit"
"""Kind of the finding."""
BEYOND, SLACK = 1.1, 1.0
"""Multiple of the duration, and seconds on top, up to which a segment may exceed its video."""
SHARE_BEYOND, MOST_BEYOND = 0.25, 0.5
"""Share of the videos with longer segments above which a unit that fits is reported; and any other unit."""
CHANCE, EARLIEST = 1e-3, 0.25
"""Segments are too early to be in seconds if the last ends lie in this share of the videos, and the chance of
that is smaller for ends anywhere in a video."""
CERTAIN_SHARE, CERTAIN_SECONDS = 0.1, 2.0
"""Such segments are refused only if all also end within this share and these seconds of their videos: actions
at the start of long videos look like another unit, too, but take longer."""
FITS, USED_LATE, USED_EARLY = 1.05, 0.2, 0.3
"""In the right unit, no end exceeds this multiple of the video; and the median end is at least this share of
it, for segments that are too late or too early in seconds."""
DISTINCT = 2.0
"""Factor by which a unit differs from seconds at least: percent of a video of 100 s are seconds."""
FEWEST_LATE, FEWEST_EARLY = 2, 3
"""Number of videos that show a unit."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Last end of the segments of a video, as written.

    Attributes:
        subset: Subset of the video.
        duration: Duration of the video, as written.
        fps: Frames per second.
        end: Largest end of its segments.
    """

    subset: str
    duration: float
    fps: float
    end: float

    @property
    def position(self) -> float:
        """Last end as a multiple of the duration."""
        return self.end / self.duration


def _units(stride: float) -> dict[str, Callable[[Extent], float]]:
    """Return for each unit the `position` of a segment that lasts to the end of its video."""
    units: dict[str, Callable[[Extent], float]] = {
        "times look like milliseconds": lambda video: 1e3,
        "times look like microseconds": lambda video: 1e6,
        "times look like frames": lambda video: video.fps,
        "times look like minutes": lambda video: 1 / 60,
        "times look like hours": lambda video: 1 / 3600,
        "times look like a fraction of the video": lambda video: 1 / video.duration,
        "times look like percent of the video": lambda video: 100 / video.duration,
        "durations look like milliseconds": lambda video: 1e-3,
        "durations look like frames": lambda video: 1 / video.fps,
        "durations look like minutes": lambda video: 60.0,
        "durations look like hours": lambda video: 3600.0,
    }
    if stride:
        units["times look like steps of the features"] = lambda video: video.fps / stride
    return units


def unit_finding(path: Path, videos: Sequence[Extent], stride: float) -> Finding | None:
    """Return what other unit than seconds the times are in; None for seconds.

    Segments that end long after their videos are an error. Segments that are all early are one only if they
    end within a few seconds of long videos, otherwise a warning, since actions can be early.

    Every subset is examined, too, since subsets may come from different programs.

    Args:
        path: Annotation file.
        videos: Videos with segments.
        stride: Frames between two features; 0 if unknown.
    """
    subsets: dict[str, list[Extent]] = {}
    for video in videos:
        subsets.setdefault(video.subset, []).append(video)
    parts = (videos, *subsets.values())
    for part in parts:
        if late := _late(part, stride):
            return Finding("error", UNIT, str(path), f"{late}; give seconds")
    early = [(part, name) for part in parts if (name := _early(part, stride))]
    for part, name in early:
        if all(v.position <= CERTAIN_SHARE and v.end <= CERTAIN_SECONDS for v in part):
            return Finding("error", UNIT, str(path), f"{_described(name, part)}; give seconds")
    for part, name in early:
        text = f"{_described(name, part)}; give seconds, unless all actions are that early"
        return Finding("warning", UNIT, str(path), text)
    return None


def _late(videos: Sequence[Extent], stride: float) -> str:
    """Return what the times are in where too many segments end after their videos."""
    late = [v for v in videos if v.end > BEYOND * v.duration + SLACK]
    if len(late) >= max(FEWEST_LATE, SHARE_BEYOND * len(videos)):
        if name := _fitting(late, stride, USED_LATE):
            return _described(name, late)
        if len(late) > MOST_BEYOND * len(videos):
            return _described("times are not seconds", late)
    return ""


def _early(videos: Sequence[Extent], stride: float) -> str:
    """Return the name of the unit where all segments are too early in their videos; empty otherwise."""
    latest = max((video.position for video in videos), default=1.0)
    early = len(videos) >= FEWEST_EARLY and 0 < latest <= EARLIEST and latest ** len(videos) < CHANCE
    return _fitting(videos, stride, USED_EARLY) if early else ""


def _fitting(videos: Sequence[Extent], stride: float, used: float) -> str:
    """Return the unit in which all segments lie in their videos; of several, that with the latest ends."""
    best = ""
    for name, last in _units(stride).items():
        if any(max(last(video), 1 / last(video)) < DISTINCT for video in videos):
            continue
        positions = [video.position / last(video) for video in videos]
        if max(positions) <= FITS and median(positions) > used:
            best, used = name, median(positions)
    return best


def _described(name: str, videos: Sequence[Extent]) -> str:
    middle = sorted(videos, key=lambda video: video.position)[len(videos) // 2]
    return (
        f"{name}: segments end at {middle.end:g} in a video of duration {middle.duration:g} "
        f"({middle.position:.3g} times it, median)"
    )
