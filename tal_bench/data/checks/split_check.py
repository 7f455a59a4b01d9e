"""Checks of the splits of a dataset: empty splits, and videos or groups in both splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tal_bench.config import DatasetSpec
from tal_bench.data.annotation_parser import load_database
from tal_bench.data.annotations import AnnotatedVideo, Annotations
from tal_bench.data.findings import Finding
from tal_bench.data.selection import assign_folds, group_of
from tal_bench.data.video_scores import read_scores
from tal_bench.errors import DataError

Parts = dict[str, list[AnnotatedVideo]]
TRAINING, TEST = "training", "test"


def check_splits(spec: DatasetSpec, annotations: Annotations) -> tuple[Parts, list[Finding]]:
    """Divide the videos as `selection.select` does, and list all problems for which it would raise an error.

    Returns:
        Training and test videos without the excluded ones, and the findings.
    """
    check = _SplitCheck(spec, annotations)
    check.subsets()
    groups = check.groups()
    parts = {part: check.without_excluded(videos) for part, videos in check.divide(groups).items()}
    check.disjoint(parts, groups)
    check.labels(parts)
    check.scores(parts[TEST])
    return parts, check.findings


@dataclass(slots=True)
class _SplitCheck:
    """Collects findings about the splits of a dataset."""

    spec: DatasetSpec
    annotations: Annotations
    findings: list[Finding] = field(default_factory=list)

    def error(self, kind: str, problem: str, where: object = None) -> None:
        self.findings.append(Finding("error", kind, str(where or self.annotations.path), problem))

    def warning(self, kind: str, problem: str, where: object = None) -> None:
        self.findings.append(Finding("warning", kind, str(where or self.annotations.path), problem))

    def subsets(self) -> None:
        """Check for subsets without videos and unknown excluded videos."""
        present = {video.subset.casefold() for video in self.annotations.videos}
        for part, names in (("train", self.spec.train), ("test", self.spec.test)):
            for name in names:
                if name.casefold() not in present:
                    available = ", ".join(_subsets_in(self.annotations)) or "none"
                    self.error("empty-subset", f"'{part}': no videos in '{name}'; available: {available}")
        known = {video.id for video in self.annotations.videos}
        for name in self.spec.exclude:
            if name not in known:
                self.warning("unknown-video", f"'exclude' has '{name}', which is in neither split")

    def groups(self) -> dict[str, str]:
        """Return the group of each video; report videos without one, which become their own group."""
        groups: dict[str, str] = {}
        for video in self.annotations.videos:
            try:
                groups[video.id] = group_of(self.spec, video)
            except DataError as error:
                self.error("no-group", error.what, f"{self.annotations.path}, video '{video.id}'")
                groups[video.id] = video.id
        return groups

    def divide(self, groups: Mapping[str, str]) -> Parts:
        """Return the videos of both splits, by subset or by fold."""
        spec = self.spec
        subsets = {
            part: {n.casefold() for n in names} for part, names in ((TRAINING, spec.train), (TEST, spec.test))
        }
        videos = [
            v for v in self.annotations.videos if v.subset.casefold() in subsets[TRAINING] | subsets[TEST]
        ]
        if spec.folds is not None:
            try:
                folds = assign_folds({video.id: groups[video.id] for video in videos}, spec.folds)
            except DataError as error:
                self.error("folds", error.what)
                return {TRAINING: videos, TEST: []}
            return {
                TRAINING: [v for v in videos if folds[v.id] != spec.fold],
                TEST: [v for v in videos if folds[v.id] == spec.fold],
            }
        return {part: [v for v in videos if v.subset.casefold() in names] for part, names in subsets.items()}

    def without_excluded(self, videos: list[AnnotatedVideo]) -> list[AnnotatedVideo]:
        return [video for video in videos if video.id not in self.spec.exclude]

    def disjoint(self, parts: Parts, groups: Mapping[str, str]) -> None:
        """Check for videos and groups that are in both splits."""
        tested = {video.id for video in parts[TEST]}
        both = [video.id for video in parts[TRAINING] if video.id in tested]
        for name in both:
            self.error("two-splits", f"video '{name}' is in both training and test")
        members: dict[str, dict[str, list[str]]] = {}
        for part, videos in parts.items():
            for video in videos:
                if video.id not in both:
                    members.setdefault(groups[video.id], {}).setdefault(part, []).append(video.id)
        for group, by_part in members.items():
            if len(by_part) > 1:
                shown = " and ".join(
                    f"{len(v)} {part} video{'s' * (len(v) > 1)} ('{v[0]}')" for part, v in by_part.items()
                )
                self.error("group-in-two-splits", f"group '{group}' has {shown}")

    def labels(self, parts: Parts) -> None:
        """Check for splits without videos, videos without segments, and classes only in the test split."""
        for part, videos in parts.items():
            if not videos and any(v.id in self.spec.exclude for v in self.annotations.videos):
                self.error("empty-split", f"no {part} videos are left: all of them are in 'exclude'")
            unlabelled = [video.id for video in videos if not len(video.labels)]
            if unlabelled:
                self.warning(
                    "no-segments",
                    f"{len(unlabelled)} {part} videos have no segments, first '{unlabelled[0]}'",
                )
        trained, tested = ({int(k) for v in parts[part] for k in v.labels} for part in (TRAINING, TEST))
        for index in sorted(tested - trained if trained else ()):
            name = self.annotations.classes[index]
            self.warning("unknown-label", f"class '{name}' occurs in test but has no training segments")

    def scores(self, tested: list[AnnotatedVideo]) -> None:
        """Check the file of external scores, and that it has all test videos."""
        if self.spec.scores is None:
            return
        try:
            scored = read_scores(self.spec.scores, self.annotations.classes)
        except DataError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self.error("scores", error.what + hint, error.where)
            return
        report = self.error if self.spec.missing == "error" else self.warning
        for video in tested:
            if video.id not in scored:
                report("scores", f"test video '{video.id}' has no external scores", self.spec.scores)


def _subsets_in(annotations: Annotations) -> list[str]:
    """Return the names of all subsets of the file, including those that the dataset does not use."""
    database, _ = load_database(annotations.path)
    names = (entry.get("subset") for entry in database.values() if isinstance(entry, dict))
    return sorted({name for name in names if isinstance(name, str)})
