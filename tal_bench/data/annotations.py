"""Reading of ActivityNet-style annotation files: database → video → subset, duration, fps, annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tal_bench.config import DatasetSpec
from tal_bench.data.annotation_parser import REVERSED_SHARE, SHORTEST, AnnotatedVideo, Scan, load_database
from tal_bench.data.findings import Finding
from tal_bench.data.time_units import UNIT
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
    """Content of an annotation file.

    Attributes:
        path: Path of the file.
        classes: Class names in the order of their indices.
        videos: Videos in file order.
        repairs: Number of segments that were dropped or clipped, by kind of finding.
        doubts: What may be wrong with the whole file, such as the unit of its times.
    """

    path: Path
    classes: tuple[str, ...]
    videos: tuple[AnnotatedVideo, ...]
    repairs: Mapping[str, int] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def in_subsets(self, subsets: Collection[str]) -> list[AnnotatedVideo]:
        """Return the videos of the given subsets, matched case-insensitively.

        Raises:
            DataError: There are no such videos; the message lists the subsets of the file.
        """
        wanted = {name.casefold() for name in subsets}
        videos = [video for video in self.videos if video.subset.casefold() in wanted]
        if not videos:
            available = ", ".join(sorted({video.subset for video in self.videos})) or "none"
            raise DataError(
                f"no videos in subset {' or '.join(map(repr, subsets))}",
                where=self.path,
                hint=f"subsets of the file: {available}",
            )
        return videos


def read_annotations(
    path: Path,
    *,
    fps: float | None = None,
    subsets: Collection[str] | None = None,
    ignore: Collection[str] = (),
    group_field: str = "",
    count: int | None = None,
    stride: float = 0.0,
) -> Annotations:
    """Read an annotation file for training or evaluation.

    Segments are clipped to the video. Empty, repeated and reversed segments and segments that begin after the
    end of the video are dropped and counted in `Annotations.repairs`; a file in which more than
    `REVERSED_SHARE` of the segments are reversed is rejected. Classes are ordered by `label_id` if every
    annotation has one, and by name otherwise.

    Args:
        path: JSON file.
        fps: Frame rate, in place of the file's `fps`; without either, `frame` (the number of frames) /
            `duration`.
        subsets: Subsets to read, matched case-insensitively; None = all.
        ignore: Labels that are not classes, whose segments are ignored.
        group_field: Field of an entry to store as `AnnotatedVideo.group`.
        count: Number of classes, if `label_id` has gaps.
        stride: Frames between two features, to name the unit of times that are not seconds; 0 if unknown.

    Raises:
        DataError: The file cannot be read or is malformed, or its times are not seconds.
    """
    annotations, findings = scan_annotations(
        path, fps=fps, subsets=subsets, ignore=ignore, group_field=group_field, count=count, stride=stride
    )
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f"; {len(errors) - 1} more errors" if len(errors) > 1 else ""
        raise DataError(
            errors[0].problem + more,
            where=errors[0].file,
            hint="'tal-bench data check' lists all problems",
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
    stride: float = 0.0,
) -> tuple[Annotations, list[Finding]]:
    """Read the valid part of an annotation file, and list all problems.

    The arguments are those of `read_annotations`.

    Raises:
        DataError: The file is missing, is not JSON or has no `database`.
    """
    database, repeated = load_database(path)
    wanted = None if subsets is None else {name.casefold() for name in subsets}
    scan = Scan(path, fps, frozenset(ignore), group_field, count, stride)
    for name in repeated:
        scan.error("two-splits", name, "repeated in 'database'")
    classes = scan.classes(database)
    videos = [
        video
        for name, value in database.items()
        if _is_in(value, wanted) and (video := scan.video(name, value, classes))
    ]
    findings = scan.final_findings()
    warnings = [finding for finding in findings if finding.severity == "warning"]
    repairs = Counter(finding.kind for finding in warnings if finding.kind != UNIT)
    doubts = tuple(finding.problem for finding in warnings if finding.kind == UNIT)
    return Annotations(path, scan.class_names(classes), tuple(videos), dict(repairs), doubts), findings


def _is_in(value: Any, wanted: Collection[str] | None) -> bool:
    """Whether an entry is in one of the wanted subsets, or has no valid subset."""
    subset = value.get("subset") if isinstance(value, dict) else None
    return wanted is None or not isinstance(subset, str) or subset.casefold() in wanted


def read_labels(spec: DatasetSpec) -> Annotations:
    """Read the annotations of a dataset's subsets; see `read_annotations`."""
    return read_annotations(spec.annotations, **_arguments(spec))


def scan_labels(spec: DatasetSpec) -> tuple[Annotations, list[Finding]]:
    """Read the annotations of a dataset's subsets and list their problems; see `scan_annotations`."""
    return scan_annotations(spec.annotations, **_arguments(spec))


def _arguments(spec: DatasetSpec) -> dict[str, Any]:
    return {
        "fps": spec.fps,
        "subsets": (*spec.train, *spec.test),
        "ignore": spec.ignore_labels,
        "group_field": spec.group_field,
        "count": spec.classes,
        "stride": spec.stride,
    }
