"""Everything that is wrong with a dataset, found in one go."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo, Annotations, scan_annotations
from tal_bench.data.features import SLACK_STEPS, feature_path, load_array, stream_problem
from tal_bench.data.findings import Finding
from tal_bench.errors import DataError

SHOWN = 10
"""Findings of one kind that `CheckReport.lines` shows by default."""

LENGTH_STEPS, LENGTH_SHARE, LENGTH_WRONG = 4, 0.02, 0.10
"""A length may differ from the expected one by so many steps or such a share; beyond 10 % it is an error."""

BLOCK = 1 << 22
"""Values tested for NaN at a time."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found.

    Attributes:
        dataset: its name.
        videos: videos looked at.
        files: feature files looked for.
        findings: errors first, otherwise in the order of annotations, then features.
    """

    dataset: str
    videos: int
    files: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the dataset can be used: there may be warnings."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings per kind, errors first."""
        return dict(Counter(finding.kind for finding in self.findings))

    def lines(self, shown: int = SHOWN) -> list[str]:
        """One line per finding, at most ``shown`` of a kind, and how many are left out."""
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        lines = []
        for (severity, kind), group in groups.items():
            lines += [f"{severity}: {f.file}: {f.problem}" for f in group[:shown]]
            if len(group) > shown:
                lines.append(f"{severity}: … and {len(group) - shown} more of kind '{kind}'")
        return lines

    def to_json(self) -> str:
        """All findings, and the counts, as a JSON object."""
        value = {
            "dataset": self.dataset,
            "ok": self.ok,
            "videos": self.videos,
            "files": self.files,
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(value, indent=1)


def check(spec: DatasetSpec, *, progress: Progress | None = None) -> CheckReport:
    """Read a whole dataset, every stream of every video, and list all that is wrong with it.

    Errors are what keeps the dataset from being opened, or what would spoil every result silently (videos in
    both splits, features of another stride); warnings are what reading repairs.

    Args:
        spec: the dataset.
        progress: called with (videos done, videos in all).
    """
    try:
        annotations, findings = scan_annotations(spec.annotations, fps=spec.fps)
    except DataError as error:
        hint = f" ({error.hint})" if error.hint else ""
        problem = Finding("error", "annotations", str(error.where), error.what + hint)
        return CheckReport(spec.name, 0, 0, (problem,))
    findings += _splits(spec, annotations)
    wanted = {name.casefold() for name in (*spec.train, *spec.test)}
    videos = [video for video in annotations.videos if video.subset.casefold() in wanted]
    files = {feature_path(m, video.id) for m in spec.modalities.values() for video in videos}
    absent = _absent_folders(spec, videos)
    findings += absent.values()
    present = [name for name in spec.modalities if name not in absent]
    seen = _FeatureCheck(spec, present, findings, {})
    for done, video in enumerate(videos):
        seen.video(video)
        if progress:
            progress(done + 1, len(videos))
    findings.sort(key=lambda finding: finding.severity != "error")
    return CheckReport(spec.name, len(videos), len(files), tuple(findings))


def _splits(spec: DatasetSpec, annotations: Annotations) -> Iterator[Finding]:
    """Empty subsets, videos in both splits, and classes that only one of them has."""
    where = str(annotations.path)
    has = ", ".join(sorted({video.subset for video in annotations.videos})) or "none"
    parts: dict[str, list[AnnotatedVideo]] = {}
    for part, subsets in (("train", spec.train), ("test", spec.test)):
        names = {name.casefold() for name in subsets}
        parts[part] = [video for video in annotations.videos if video.subset.casefold() in names]
        for name in subsets:
            if not any(video.subset.casefold() == name.casefold() for video in annotations.videos):
                yield Finding(
                    "error", "empty-subset", where, f"'{part}': no video in '{name}'; it has: {has}"
                )
        bare = [video.id for video in parts[part] if not len(video.labels)]
        if bare:
            problem = f"{len(bare)} {part} videos have no segment, '{bare[0]}' first"
            yield Finding("warning", "no-segments", where, problem)
    test_ids = {video.id for video in parts["test"]}
    for video in parts["train"]:
        if video.id in test_ids:
            yield Finding("error", "two-splits", where, f"video '{video.id}' is trained and tested on")
    trained, tested = ({int(k) for v in parts[part] for k in v.labels} for part in ("train", "test"))
    for index in sorted(tested - trained if trained else ()):
        problem = f"class '{annotations.classes[index]}' is tested but has no training segment"
        yield Finding("warning", "unknown-label", where, problem)


def _absent_folders(spec: DatasetSpec, videos: Sequence[AnnotatedVideo]) -> dict[str, Finding]:
    """Stream name to one finding, for streams of which not a single file is there."""
    absent: dict[str, Finding] = {}
    for name, modality in spec.modalities.items():
        paths = [feature_path(modality, video.id) for video in videos]
        if not paths or any(path.exists() for path in paths):
            continue
        state = "there is no such folder"
        if modality.folder.is_dir():
            other = next((p.name for p in sorted(modality.folder.iterdir()) if p.is_file()), None)
            state = f"the folder has '{other}': see prefix and suffix" if other else "the folder is empty"
        problem = f"{name}: none of {len(paths)} feature files is here, '{paths[0].name}' first; {state}"
        absent[name] = Finding("error", "missing", str(modality.folder), problem)
    return absent


@dataclass(slots=True)
class _FeatureCheck:
    """Looks at feature files, one video after the other.

    Attributes:
        spec: the dataset.
        names: streams to look at.
        findings: where problems go.
        contents: digest of a file's data to the video that has it, per stream.
    """

    spec: DatasetSpec
    names: Sequence[str]
    findings: list[Finding]
    contents: dict[tuple[str, bytes], str]

    def error(self, kind: str, where: object, problem: str) -> None:
        self.findings.append(Finding("error", kind, str(where), problem))

    def video(self, video: AnnotatedVideo) -> None:
        """All streams of one video; a file that several of them share is read and reported once."""
        arrays: dict[Path, NDArray[Any] | None] = {}
        lengths: dict[str, int] = {}
        reported: set[tuple[Path, str]] = set()
        for name in self.names:
            modality = self.spec.modalities[name]
            path = feature_path(modality, video.id)
            if path not in arrays or path.suffix != ".npy":
                arrays[path] = self._load(path, name, first=path not in arrays)
            array = arrays[path]
            if array is None:
                continue
            if problem := stream_problem(array, modality):
                if (path, problem[1]) not in reported:
                    self.error(problem[0], path, problem[1])
                reported.add((path, problem[1]))
                continue
            columns = slice(*modality.columns) if modality.columns else slice(None)
            self._values(array[:, columns], name, path, video.id)
            if (path, "length") not in reported:
                self._length(len(array), path, video)
            reported.add((path, "length"))
            lengths[name] = len(array)
        if lengths and max(lengths.values()) - min(lengths.values()) > SLACK_STEPS:
            shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
            self.error("streams-differ", f"video '{video.id}'", f"streams differ in length: {shown} steps")

    def _load(self, path: Path, name: str, *, first: bool) -> NDArray[Any] | None:
        try:
            return load_array(path, name)
        except DataError as error:
            if first:
                kind = next((k for k in ("missing", "empty", "truncated") if k in error.what), "unreadable")
                self.error(kind, path, error.what)
            return None

    def _values(self, array: NDArray[Any], name: str, path: Path, video: str) -> None:
        """NaN and infinite values, constant features, and data that another video has too."""
        digest = hashlib.sha256(str(array.shape).encode())
        rows = max(1, BLOCK // array.shape[1])
        bad, peak = 0, 0.0
        for first in range(0, len(array), rows):
            block = np.ascontiguousarray(array[first : first + rows])
            digest.update(block.data)
            finite = np.isfinite(block)
            bad += int(block.size - finite.sum())
            peak = max(peak, float(np.abs(block, where=finite, out=np.zeros_like(block)).max()))
        if bad:
            self.error("nan", path, f"{bad} NaN or infinite values in {name}")
        elif peak == 0.0:
            self.error("zeros", path, f"every value of {name} is 0")
        else:
            other = self.contents.setdefault((name, digest.digest()), video)
            if other != video:
                problem = f"{name} is the same as that of video '{other}'"
                self.findings.append(Finding("warning", "same-features", str(path), problem))

    def _length(self, steps: int, path: Path, video: AnnotatedVideo) -> None:
        """Compare T with the steps that fit into the video with and without padding at its ends."""
        spec = self.spec
        frames = video.duration * video.fps
        longest = frames / spec.stride
        shortest = max((frames - spec.window) / spec.stride + 1, 1.0)
        low, high = min(shortest, longest), max(shortest, longest)
        off = max(low - steps, steps - high, 0.0)
        if off <= max(LENGTH_STEPS, LENGTH_SHARE * high):
            return
        severity: Literal["error", "warning"] = "error" if off > LENGTH_WRONG * high else "warning"
        problem = (
            f"{steps} steps, expected about {round(high)} for {video.duration:g} s at {video.fps:g} fps and "
            f"stride {spec.stride:g} (stride {frames / steps:.3g} would fit)"
        )
        self.findings.append(Finding(severity, "length", str(path), problem))
