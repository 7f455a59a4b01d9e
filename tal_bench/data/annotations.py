"""ActivityNet-style annotation files: database → id → subset, duration, fps, annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tal_bench.config import DatasetSpec
from tal_bench.data.annotation_parser import REVERSED_SHARE, SHORTEST, AnnotatedVideo, Scan, load_database
from tal_bench.data.findings import Finding
from tal_bench.errors import DataError

__all__ = [
    "REVERSED_SHARE",
    "SHORTEST",
    "AnnotatedVideo",
    "Annotations",
    "read_annotations",
    "read_labels",
    "scan_annotations",
    "scan_labels",
]


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """A whole annotation file.

    Attributes:
        path: where it was read.
        classes: names in the order of their indices.
        videos: in file order.
        repairs: kind of finding to the number of segments that were dropped or clipped for it.
    """

    path: Path
    classes: tuple[str, ...]
    videos: tuple[AnnotatedVideo, ...]
    repairs: Mapping[str, int] = field(default_factory=dict)

    def of(self, subsets: Collection[str]) -> list[AnnotatedVideo]:
        """Videos of the named subsets, matched without regard to case.

        Raises:
            DataError: there is none; the message says which subsets the file has.
        """
        wanted = {name.casefold() for name in subsets}
        found = [video for video in self.videos if video.subset.casefold() in wanted]
        if not found:
            has = ", ".join(sorted({video.subset for video in self.videos})) or "none"
            raise DataError(
                f"no video in subset {' or '.join(map(repr, subsets))}",
                where=self.path,
                hint=f"the file has: {has}",
            )
        return found


def read_annotations(
    path: Path,
    *,
    fps: float | None = None,
    subsets: Collection[str] | None = None,
    ignore: Collection[str] = (),
    group_field: str = "",
    count: int | None = None,
) -> Annotations:
    """Read an annotation file for training or evaluation.

    Segments are clipped to the video; empty ones, duplicates, reversed ones and those that begin after the
    video's end are dropped, and counted in `Annotations.repairs`. Where more than `REVERSED_SHARE` of them
    are reversed, the file is refused. Classes are ordered by `label_id` where every annotation has one, by
    name otherwise.

    Args:
        path: the JSON file.
        fps: overrides the file's `fps`; without either, it is `frame` (their number) / `duration`.
        subsets: read the videos of these alone, matched without regard to case; none = all.
        ignore: labels that are no class; their segments are left out.
        group_field: field of an entry to keep as `AnnotatedVideo.group`.
        count: number of classes, where `label_id` leaves gaps.

    Raises:
        DataError: the file cannot be read, or anything in it is malformed.
    """
    annotations, findings = scan_annotations(
        path, fps=fps, subsets=subsets, ignore=ignore, group_field=group_field, count=count
    )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f"; {len(errors) - 1} more like it or other" if len(errors) > 1 else ""
        raise DataError(
            errors[0].problem + more,
            where=errors[0].file,
            hint="'tal-bench data check' lists every problem",
        )
    return annotations


def scan_annotations(
    path: Path,
    *,
    fps: float | None = None,
    subsets: Collection[str] | None = None,
    ignore: Collection[str] = (),
    group_field: str = "",
    count: int | None = None,
) -> tuple[Annotations, list[Finding]]:
    """Read as much of an annotation file as can be read, and list what is wrong with it.

    Arguments are those of `read_annotations`.

    Raises:
        DataError: the file as a whole is not readable: missing, not JSON, no `database`.
    """
    database, repeated = load_database(path)
    wanted = None if subsets is None else {name.casefold() for name in subsets}
    scan = Scan(path, fps, frozenset(ignore), group_field, count)
    for name in repeated:
        scan.error("two-splits", name, "listed more than once in 'database'")
    classes = scan.classes(database)
    videos = [
        video
        for name, value in database.items()
        if _among(value, wanted) and (video := scan.video(name, value, classes))
    ]
    findings = scan.judged()
    repairs = Counter(f.kind for f in findings if f.severity == "warning")
    return Annotations(path, scan.names(classes), tuple(videos), dict(repairs)), findings


def _among(value: Any, wanted: Collection[str] | None) -> bool:
    """Whether an entry is of a wanted subset, or does not say of which it is."""
    subset = value.get("subset") if isinstance(value, dict) else None
    return wanted is None or not isinstance(subset, str) or subset.casefold() in wanted


def read_labels(spec: DatasetSpec) -> Annotations:
    """The annotations of a dataset's subsets, as `read_annotations` reads them."""
    return read_annotations(spec.annotations, **_arguments(spec))


def scan_labels(spec: DatasetSpec) -> tuple[Annotations, list[Finding]]:
    """The annotations of a dataset's subsets and what is wrong with them, as `scan_annotations` does."""
    return scan_annotations(spec.annotations, **_arguments(spec))


def _arguments(spec: DatasetSpec) -> dict[str, Any]:
    return {
        "fps": spec.fps,
        "subsets": (*spec.train, *spec.test),
        "ignore": spec.ignore_labels,
        "group_field": spec.group_field,
        "count": spec.classes,
    }
