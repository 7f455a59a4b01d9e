"""Checks of feature files, video by video."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo
from tal_bench.data.features import SLACK_STEPS, feature_paths, load_array, parts_problem
from tal_bench.data.findings import Finding
from tal_bench.errors import DataError

LENGTH_STEPS, LENGTH_SHARE, LENGTH_WRONG = 4, 0.02, 0.10
"""Tolerated difference from the expected length in steps and as a share; share above which it is an error."""

BLOCK = 1 << 22
"""Number of values tested for NaN at a time."""

Arrays = dict[Path, NDArray[Any]]


@dataclass(slots=True)
class FeatureCheck:
    """Checks feature files and collects findings.

    Attributes:
        spec: Dataset.
        names: Streams to check.
        part_of: Split of each video.
        findings: Problems found.
    """

    spec: DatasetSpec
    names: Sequence[str]
    part_of: Mapping[str, str]
    findings: list[Finding] = field(default_factory=list)
    _contents: dict[tuple[str, bytes], str] = field(default_factory=dict)
    _reported: set[tuple[Path, str]] = field(default_factory=set)

    def error(self, kind: str, where: object, problem: str) -> None:
        """Add a finding that keeps a video from being used."""
        self.findings.append(Finding("error", kind, str(where), problem))

    def once(self, kind: str, path: Path, problem: str) -> None:
        """Add an error only once for a file that several streams share."""
        if (path, problem) not in self._reported:
            self._reported.add((path, problem))
            self.error(kind, path, problem)

    def video(self, video: AnnotatedVideo) -> None:
        """Check all streams of a video; a `.npy` file that several streams share is read once."""
        shared: dict[Path, NDArray[Any] | None] = {}
        lengths: dict[str, int] = {}
        for name in self.names:
            modality = self.spec.modalities[name]
            parts: Arrays = {}
            for path in feature_paths(modality, video.id):
                if path not in shared or path.suffix != ".npy":
                    shared[path] = self._load(path, name)
                if (array := shared[path]) is not None:
                    parts[path] = array
            if len(parts) < 1 + len(modality.also):
                continue
            if problem := parts_problem(parts, modality):
                self.once(problem[0], next(iter(parts)), problem[1])
                continue
            for path, array in parts.items():
                columns = slice(*modality.columns) if modality.columns else slice(None)
                self._values(array[:, columns], name, path, video.id)
                self._length(len(array), path, video)
                lengths[name if len(parts) == 1 else f"{name}/{path.parent.name}"] = len(array)
        if lengths and max(lengths.values()) - min(lengths.values()) > SLACK_STEPS:
            shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
            self.error("streams-differ", f"video '{video.id}'", f"streams differ in length: {shown} steps")

    def _load(self, path: Path, name: str) -> NDArray[Any] | None:
        try:
            return load_array(path, name)
        except DataError as error:
            kind = error.kind or "unreadable"
            if kind == "missing" and self.spec.missing == "skip":
                problem = f"{error.what}; its video is left out"
                self.findings.append(Finding("warning", kind, str(path), problem))
            else:
                self.once(kind, path, f"{error.what} ({error.hint})" if error.hint else error.what)
            return None

    def _values(self, array: NDArray[Any], name: str, path: Path, video: str) -> None:
        """Check for NaN and infinite values, zeros, and features equal to those of another video."""
        digest = hashlib.sha256(str(array.shape).encode())
        rows = max(1, BLOCK // max(array.shape[1], 1))
        bad, peak = 0, 0.0
        for first in range(0, len(array), rows):
            block = np.ascontiguousarray(array[first : first + rows])
            digest.update(block.data)
            finite = np.isfinite(block)
            bad += int(block.size - finite.sum())
            peak = max(peak, float(np.abs(block, where=finite, out=np.zeros_like(block)).max(initial=0.0)))
        if bad:
            self.error("nan", path, f"{bad} NaN or infinite value{'s' * (bad > 1)} in {name}")
        elif peak == 0.0:
            self.error("zeros", path, f"every value of {name} is 0")
        else:
            self._duplicate(
                self._contents.setdefault((f"{name}/{path.parent}", digest.digest()), video),
                name,
                path,
                video,
            )

    def _duplicate(self, other: str, name: str, path: Path, video: str) -> None:
        """Report features equal to those of another video; an error if that video is in the other split."""
        if other == video:
            return
        part = self.part_of[other]
        if part != self.part_of[video]:
            self.error("two-splits", path, f"{name} is identical to that of {part} video '{other}'")
        else:
            problem = f"{name} is identical to that of video '{other}'"
            self.findings.append(Finding("warning", "same-features", str(path), problem))

    def _length(self, steps: int, path: Path, video: AnnotatedVideo) -> None:
        """Compare T with the number of steps expected with and without padding at the ends of the video."""
        spec = self.spec
        if not spec.stride:  # the features cover the video evenly, with any T
            return
        frames = video.duration * video.fps - spec.offset
        longest = frames / spec.stride
        shortest = max((frames - spec.window) / spec.stride + 1, 1.0)
        low, high = min(shortest, longest), max(shortest, longest)
        difference = max(low - steps, steps - high, 0.0)
        if difference <= max(LENGTH_STEPS, LENGTH_SHARE * high) or (path, "length") in self._reported:
            return
        self._reported.add((path, "length"))
        severity: Literal["error", "warning"] = "error" if difference > LENGTH_WRONG * high else "warning"
        problem = (
            f"{steps} steps, expected about {round(high)} for {video.duration:g} s at {video.fps:g} fps and "
            f"stride {spec.stride:g} (stride {frames / steps:.3g} would fit)"
        )
        self.findings.append(Finding(severity, "length", str(path), problem))
