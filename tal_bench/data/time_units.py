"""Which unit the times of an annotation file are in, told from where the last segment of each video ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

BEYOND, SLACK = 1.1, 1.0
"""Multiple of the duration, and seconds on top, up to which a segment may exceed its video."""
SHARE_BEYOND, MOST_BEYOND = 0.25, 0.5
"""Share of the videos with longer segments above which a unit that fits is reported; and any other unit."""
CHANCE, EARLIEST = 1e-3, 0.25
"""Segments are too early to be in seconds if the last ends lie in this share of the videos, and the chance of
that is smaller for ends anywhere in a video."""
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


def unit_problem(videos: Sequence[Extent], stride: float) -> str:
    """Return what another unit than seconds the times are in; empty for seconds.

    Every subset is examined, too, since subsets may come from different programs.

    Args:
        videos: Videos with segments.
        stride: Frames between two features; 0 if unknown.
    """
    subsets: dict[str, list[Extent]] = {}
    for video in videos:
        subsets.setdefault(video.subset, []).append(video)
    for part in (videos, *subsets.values()):
        late = [v for v in part if v.end > BEYOND * v.duration + SLACK]
        if len(late) >= max(FEWEST_LATE, SHARE_BEYOND * len(part)):
            if name := _fitting(late, stride, USED_LATE):
                return _described(name, late)
            if len(late) > MOST_BEYOND * len(part):
                return _described("times are not seconds", late)
        latest = max((v.position for v in part), default=1.0)
        early = len(part) >= FEWEST_EARLY and 0 < latest <= EARLIEST and latest ** len(part) < CHANCE
        if early and (name := _fitting(part, stride, USED_EARLY)):
            return _described(name, part)
    return ""


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
        f"({middle.position:.3g} times it, median); give seconds"
    )
