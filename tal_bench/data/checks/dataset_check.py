"""Check of a complete dataset, with its statistics."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo, scan_labels
from tal_bench.data.checks.class_names import check_class_names
from tal_bench.data.checks.feature_check import FeatureCheck
from tal_bench.data.checks.split_check import check_splits
from tal_bench.data.checks.statistics import statistics
from tal_bench.data.features import feature_paths
from tal_bench.data.findings import Finding
from tal_bench.errors import DataError

SHOWN = 10
"""Number of findings of each kind that `CheckReport.shown` returns by default."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Result of `check`.

    Attributes:
        dataset: Name of the dataset.
        folder: Folder of its annotations; files below it are shown relative to it.
        videos: Number of videos checked.
        files: Number of feature files expected.
        findings: Errors, then warnings, in the order annotations, splits, features.
        parts: Videos of each split; empty if the annotations cannot be read.
        classes: Class names in the order of their indices.
    """

    dataset: str
    folder: Path
    videos: int
    files: int
    findings: tuple[Finding, ...]
    parts: dict[str, list[AnnotatedVideo]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the dataset can be used: it has no errors."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings per kind, errors first."""
        return dict(Counter(finding.kind for finding in self.findings))

    @property
    def statistics(self) -> pd.DataFrame:
        """One row per split; see `tal_bench.data.checks.statistics.statistics`."""
        return statistics(self.parts)

    def with_findings(self, more: Sequence[Finding]) -> CheckReport:
        """Return the report with further findings."""
        return replace(self, findings=_errors_first([*self.findings, *more]))

    def shown(self, most: int = SHOWN) -> list[Finding]:
        """Return at most ``most`` findings per kind, then one that counts the rest; paths are shortened."""
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        rows: list[Finding] = []
        for group in groups.values():
            rows += [replace(f, file=f.file.removeprefix(f"{self.folder}/")) for f in group[:most]]
            if len(group) > most:
                rows.append(replace(group[0], file="…", problem=f"and {len(group) - most} more"))
        return rows

    def to_json(self) -> str:
        """Return findings, their counts and the statistics as a JSON object; NaN is written as null."""
        rows: dict[str, dict[str, Any]] = self.statistics.to_dict(orient="index")  # type: ignore[assignment]
        numbers = {
            part: {key: _json_number(value) for key, value in row.items()} for part, row in rows.items()
        }
        value = {
            "dataset": self.dataset,
            "ok": self.ok,
            "videos": self.videos,
            "files": self.files,
            "counts": self.counts,
            "findings": [asdict(finding) for finding in self.findings],
            "statistics": numbers,
        }
        return json.dumps(value, indent=1, allow_nan=False)


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else int(value) if float(value).is_integer() else float(value)


def check(spec: DatasetSpec, *, progress: Progress | None = None) -> CheckReport:
    """Read a dataset completely, every stream of every video, and list all problems.

    Errors are problems that keep the dataset from being opened or that silently invalidate results (videos in
    both splits, features of another stride); warnings are problems that reading repairs or leaves out.

    Args:
        spec: Dataset.
        progress: Callback that receives (videos done, all videos).
    """
    folder = spec.annotations.parent
    try:
        annotations, findings = scan_labels(spec)
    except DataError as error:
        hint = f" ({error.hint})" if error.hint else ""
        problem = Finding("error", "annotations", str(error.where), error.what + hint)
        return CheckReport(spec.name, folder, 0, 0, (problem,))
    parts, split_findings = check_splits(spec, annotations)
    findings = [*findings, *check_class_names(annotations.path, annotations.classes), *split_findings]
    part_of = {video.id: part for part, videos in parts.items() for video in videos}
    videos = [video for video in annotations.videos if video.id in part_of]
    files = {path for m in spec.modalities.values() for v in videos for path in feature_paths(m, v.id)}
    absent = _absent_folders(spec, videos)
    findings += absent.values()
    features = FeatureCheck(spec, [name for name in spec.modalities if name not in absent], part_of)
    for done, video in enumerate(videos):
        features.video(video)
        if progress:
            progress(done + 1, len(videos))
    findings += features.findings
    found = _errors_first(findings)
    return CheckReport(spec.name, folder, len(videos), len(files), found, parts, annotations.classes)


def _errors_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def _absent_folders(spec: DatasetSpec, videos: Sequence[AnnotatedVideo]) -> dict[str, Finding]:
    """Return one finding by stream, for streams with a folder that has none of the expected files."""
    absent: dict[str, Finding] = {}
    for name, modality in spec.modalities.items():
        for paths in zip(*(feature_paths(modality, video.id) for video in videos), strict=True):
            if any(path.exists() for path in paths):
                continue
            folder, state = paths[0].parent, "the folder does not exist"
            if folder.is_dir():
                other = next((p.name for p in sorted(folder.iterdir()) if p.is_file()), None)
                state = (
                    f"the folder has '{other}': check prefix and suffix" if other else "the folder is empty"
                )
            problem = f"{name}: none of {len(paths)} feature files found, first '{paths[0].name}'; {state}"
            absent.setdefault(name, Finding("error", "missing", str(folder), problem))
    return absent
