"""Conversion of the JSON values of an annotation file to annotated videos, collecting all problems."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.findings import Finding
from tal_bench.data.time_units import Extent, unit_finding
from tal_bench.errors import DataError

SHORTEST = 1e-3
"""Seconds; shorter segments count as empty, and segments closer than this as equal (as in ActionFormer)."""

REVERSED_SHARE = 0.01
"""Share of reversed segments up to which they are dropped; above it, the file is rejected."""

HUGE = 1e100
"""Seconds or frames; larger numbers, infinity and NaN are not accepted as numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedVideo:
    """One entry of an annotation file.

    Attributes:
        id: Id of the video.
        subset: Subset as written in the file.
        duration: Duration in seconds.
        fps: Frames per second, to which feature strides refer.
        segments: Segments in seconds inside [0, duration], [N, 2] float64.
        labels: Indices into the file's classes, [N] int64.
        group: Value of the dataset's `group_field`; empty without one.
    """

    id: str
    subset: str
    duration: float
    fps: float
    segments: NDArray[np.float64]
    labels: NDArray[np.int64]
    group: str = ""


def load_database(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Load an annotation file.

    Returns:
        The `database` object, and the video ids that are repeated in the file.

    Raises:
        DataError: The file is missing, is not JSON, has no `database`, or repeats a key elsewhere than in
            `database`.
    """
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            repeated.extend(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        return value

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique)
    except FileNotFoundError:
        raise DataError("no such annotation file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from None
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON at line {error.lineno}: {error.msg}", where=path) from None
    except (ValueError, RecursionError) as error:  # e.g. an integer with thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"not an annotation file: {reason}", where=path) from None
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise DataError(
            "no 'database' object with videos",
            where=path,
            hint="expected ActivityNet-style JSON: database → video → subset, duration, fps, annotations",
        )
    if others := [name for name in repeated if name not in database]:
        raise DataError(f"key {_brief(others[0])} is repeated", where=path, hint="remove one of the entries")
    return database, repeated


@dataclass(slots=True)
class Scan:
    """Converts JSON values to annotated videos and collects findings.

    Attributes:
        path: Path of the file, for messages.
        fps: Frame rate, in place of the file's.
        ignore: Labels that are not classes.
        group_field: Field of an entry with the group of the video.
        count: Number of classes, if `label_id` has gaps.
        stride: Frames between two features, to name the unit of times; 0 if unknown.
        findings: Problems found.
        segments: Number of segments read.
        extents: Where the segments of each video end.
    """

    path: Path
    fps: float | None
    ignore: frozenset[str] = frozenset()
    group_field: str = ""
    count: int | None = None
    stride: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    segments: int = 0
    extents: list[Extent] = field(default_factory=list)

    def error(self, kind: str, video: str, problem: str) -> None:
        """Add a finding that keeps a video from being read."""
        self.findings.append(Finding("error", kind, f"{self.path}, video '{video}'", problem))

    def warning(self, kind: str, video: str, problem: str) -> None:
        """Add a finding that reading repairs."""
        self.findings.append(Finding("warning", kind, f"{self.path}, video '{video}'", problem))

    def final_findings(self) -> list[Finding]:
        """Return the findings; up to `REVERSED_SHARE` reversed segments are warnings."""
        if finding := unit_finding(self.path, self.extents, self.stride):
            self.findings.insert(0, finding)
        reversed_count = sum(finding.kind == "reversed" for finding in self.findings)
        if not reversed_count or reversed_count > REVERSED_SHARE * self.segments:
            return self.findings
        return [
            replace(f, severity="warning", problem=f"{f.problem}; dropped") if f.kind == "reversed" else f
            for f in self.findings
        ]

    def classes(self, database: dict[str, Any]) -> dict[str, int]:
        """Return the index of each class in any subset; report names and ids that do not match one to one."""
        ids: dict[str, dict[int, str]] = {}
        complete = True
        for name, annotation in _all_annotations(database):
            label, number = annotation.get("label"), annotation.get("label_id")
            if not isinstance(label, str) or not label or label in self.ignore:
                continue  # reported by `_segment`
            if not label.isprintable() and not _is_text(label) and label not in ids:
                self.error("label", name, f"label {_brief(label)} has half a character; write it as UTF-8")
            known = ids.setdefault(label, {})
            if number is None:
                complete = False
            elif not isinstance(number, int) or isinstance(number, bool):
                self.error("label", name, f"label_id of '{label}' is {number!r}, not an integer")
                complete = False
            else:
                known.setdefault(number, name)
        owner: dict[int, str] = {}
        for label, known in ids.items():
            if len(known) > 1:
                numbers = " and ".join(map(str, known))
                self.error("label", list(known.values())[-1], f"class '{label}' has label_id {numbers}")
            for number, name in known.items():
                if owner.setdefault(number, label) != label:
                    self.error("label", name, f"label_id {number} is both '{owner[number]}' and '{label}'")
        if self.count is not None:
            return self._numbered(ids, complete)
        ordered = sorted(ids, key=lambda label: min(ids[label])) if complete else sorted(ids)
        return {label: index for index, label in enumerate(ordered)}

    def _numbered(self, ids: dict[str, dict[int, str]], complete: bool) -> dict[str, int]:
        """Return the `label_id` of each class, for a given number of classes."""
        if not complete and ids:
            problem = f"an annotation has no label_id, which numbers the {self.count} classes"
            self.findings.append(Finding("error", "label", str(self.path), problem))
            return {label: index for index, label in enumerate(sorted(ids))}
        numbers = {label: min(known) for label, known in ids.items()}
        for label, number in numbers.items():
            if not 0 <= number < (self.count or 0):
                self.error(
                    "label",
                    ids[label][number],
                    f"label_id {number} of '{label}', expected 0 to {(self.count or 0) - 1}",
                )
        return dict(sorted(numbers.items(), key=lambda item: item[1]))

    def class_names(self, classes: dict[str, int]) -> tuple[str, ...]:
        """Return the class names by index; classes that never occur are named by their index."""
        if self.count is None:
            return tuple(classes)
        by_index = {index: label for label, index in classes.items()}
        return tuple(by_index.get(index, f"class {index}") for index in range(self.count))

    def video(self, name: str, value: Any, classes: dict[str, int]) -> AnnotatedVideo | None:
        """Convert one entry of the database; None if it cannot be used."""
        if not isinstance(value, dict):
            self.error("entry", name, f"expected an object, got {_brief(value)}")
            return None
        if not _is_text(name):
            self.error("entry", name, f"the id {_brief(name)} has half a character; write it in UTF-8")
            return None
        subset, items = value.get("subset"), value.get("annotations")
        if not isinstance(subset, str):
            self.error("entry", name, _missing(value, "subset", "a string"))
        if not isinstance(items, list):
            self.error("entry", name, _missing(value, "annotations", "a list"))
        duration = self._positive(name, value, "duration")
        fps = self._rate(name, value, duration)
        if not isinstance(subset, str) or not isinstance(items, list) or duration is None or fps is None:
            return None
        if ends := [float(bounds[1]) for item in items if (bounds := _bounds(item)) is not None]:
            self.extents.append(Extent(subset, duration, fps, max(ends)))
        kept: dict[tuple[int, int, int], tuple[float, float, int]] = {}
        for item in items:
            segment = self._segment(name, item, duration, fps, classes)
            if segment is None:
                continue
            key = (round(segment[0] / SHORTEST), round(segment[1] / SHORTEST), segment[2])
            if key in kept:
                self.warning("duplicate", name, f"segment {list(segment[:2])} '{item['label']}' is repeated")
            kept.setdefault(key, segment)
        segments = np.array([s[:2] for s in kept.values()], dtype=np.float64).reshape(-1, 2)
        labels = np.array([s[2] for s in kept.values()], dtype=np.int64)
        group = str(value.get(self.group_field, "")) if self.group_field else ""
        return AnnotatedVideo(name, subset, duration, fps, segments, labels, group)

    def _rate(self, name: str, value: dict[str, Any], duration: float | None) -> float | None:
        """Return the frame rate: the dataset's, the entry's, or number of frames / duration."""
        if self.fps is not None:
            return self.fps
        frames = value.get("frame")
        if "fps" not in value and duration is not None and _is_number(frames) and frames > 0:
            return float(frames) / duration
        return self._positive(name, value, "fps")

    def _positive(self, name: str, value: dict[str, Any], key: str) -> float | None:
        number = value.get(key)
        if _is_number(number) and number > 0:
            return float(number)
        hint = "; it can be set in the dataset's YAML file, as 'fps: 30'" if key == "fps" else ""
        self.error("entry", name, _missing(value, key, "a number > 0") + hint)
        return None

    def _segment(
        self, name: str, item: Any, duration: float, fps: float, classes: dict[str, int]
    ) -> tuple[float, float, int] | None:
        """Return (start, end, class index) of a segment clipped to the video; None if it cannot be used."""
        if not isinstance(item, dict):
            self.error("segment", name, f"expected an object in 'annotations', got {_brief(item)}")
            return None
        label, bounds = item.get("label"), _bounds(item)
        if not isinstance(label, str) or not label:
            self.error("label", name, _missing(item, "label", "a class name"))
            return None
        if label in self.ignore:
            return None
        self.segments += 1
        if bounds is None:
            self.error("segment", name, _missing(item, "segment", "[start, end] in seconds"))
            return None
        start, end = float(bounds[0]), float(bounds[1])
        shown = f"segment {[start, end]} '{label}'"
        if not self._usable(name, shown, (start, end), duration=duration, frame=1 / fps):
            return None
        return max(start, 0.0), min(end, duration), classes[label]

    def _usable(
        self, name: str, shown: str, bounds: tuple[float, float], *, duration: float, frame: float
    ) -> bool:
        """Whether a part of a segment is inside the video; reports the problems of the segment."""
        start, end = bounds
        if start >= duration or start < end <= 0:
            # Some files clip only ends to the end of the video: such segments are outside, not reversed.
            self.warning("outside", name, f"{shown} is outside the video of {duration:g} s; dropped")
            return False
        if start > end:
            self.error("reversed", name, f"{shown} ends before it starts")
            return False
        if start < -frame or end > duration + frame:
            self.warning("outside", name, f"{shown} exceeds the video of {duration:g} s; clipped")
        if min(end, duration) - max(start, 0.0) < SHORTEST:
            self.warning("zero-length", name, f"{shown} is empty; dropped")
            return False
        return True


def _all_annotations(database: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield every annotation object with the id of its video."""
    for name, value in database.items():
        items = value.get("annotations") if isinstance(value, dict) else None
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield name, item


def _bounds(item: Any) -> list[float] | None:
    """Return the two times of an annotation, or None."""
    bounds = item.get("segment") if isinstance(item, dict) else None
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(map(_is_number, bounds)):
        return None
    return bounds


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < HUGE


def _is_text(value: str) -> bool:
    """Whether a string can be written to a file: JSON can hold halves of characters, which cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _missing(value: dict[str, Any], key: str, expected: str) -> str:
    if key not in value:
        return f"'{key}' is missing, expected {expected}"
    return f"'{key}' is {_brief(value[key])}, expected {expected}"
