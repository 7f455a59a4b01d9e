"""What is wrong with the splits of a dataset: empty ones, and what is on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tal_bench.config import DatasetSpec
from tal_bench.data.annotation_parser import load_database
from tal_bench.data.annotations import AnnotatedVideo, Annotations
from tal_bench.data.findings import Finding
from tal_bench.data.selection import fold_of, group_of
from tal_bench.data.video_scores import read_scores
from tal_bench.errors import DataError

Parts = dict[str, list[AnnotatedVideo]]
TRAINING, TEST = "training", "test"


def check_splits(spec: DatasetSpec, annotations: Annotations) -> tuple[Parts, list[Finding]]:
    """Divide the videos as `selection.select` does, and list what it would refuse, all at once.

    Returns:
        The videos trained and tested on without those that are excluded, and the findings.
    """
    look = _Look(spec, annotations)
    look.subsets()
    groups = look.groups()
    parts = {part: look.kept(videos) for part, videos in look.divide(groups).items()}
    look.apart(parts, groups)
    look.labels(parts)
    look.scores(parts[TEST])
    return parts, look.findings


@dataclass(slots=True)
class _Look:
    """Collects findings about one dataset's splits."""

    spec: DatasetSpec
    annotations: Annotations
    findings: list[Finding] = field(default_factory=list)

    def error(self, kind: str, problem: str, where: object = None) -> None:
        self.findings.append(Finding("error", kind, str(where or self.annotations.path), problem))

    def warning(self, kind: str, problem: str, where: object = None) -> None:
        self.findings.append(Finding("warning", kind, str(where or self.annotations.path), problem))

    def subsets(self) -> None:
        """Subsets without a video, and excluded videos that there are not."""
        present = {video.subset.casefold() for video in self.annotations.videos}
        for part, names in (("train", self.spec.train), ("test", self.spec.test)):
            for name in names:
                if name.casefold() not in present:
                    has = ", ".join(_subsets_in(self.annotations)) or "none"
                    self.error("empty-subset", f"'{part}': no video in '{name}'; it has: {has}")
        known = {video.id for video in self.annotations.videos}
        for name in self.spec.exclude:
            if name not in known:
                self.warning("unknown-video", f"'exclude' names '{name}', which is in neither split")

    def groups(self) -> dict[str, str]:
        """Video to group; itself where it has none, which is an error."""
        found: dict[str, str] = {}
        for video in self.annotations.videos:
            try:
                found[video.id] = group_of(self.spec, video)
            except DataError as error:
                self.error("no-group", error.what, f"{self.annotations.path}, video '{video.id}'")
                found[video.id] = video.id
        return found

    def divide(self, groups: Mapping[str, str]) -> Parts:
        """Videos of both splits, by subset or by fold."""
        spec = self.spec
        subsets = {
            part: {n.casefold() for n in names} for part, names in ((TRAINING, spec.train), (TEST, spec.test))
        }
        videos = [
            v for v in self.annotations.videos if v.subset.casefold() in subsets[TRAINING] | subsets[TEST]
        ]
        if spec.folds is not None:
            try:
                at = fold_of({video.id: groups[video.id] for video in videos}, spec.folds)
            except DataError as error:
                self.error("folds", error.what)
                return {TRAINING: videos, TEST: []}
            return {
                TRAINING: [v for v in videos if at[v.id] != spec.fold],
                TEST: [v for v in videos if at[v.id] == spec.fold],
            }
        return {part: [v for v in videos if v.subset.casefold() in names] for part, names in subsets.items()}

    def kept(self, videos: list[AnnotatedVideo]) -> list[AnnotatedVideo]:
        return [video for video in videos if video.id not in self.spec.exclude]

    def apart(self, parts: Parts, groups: Mapping[str, str]) -> None:
        """Videos and groups that are in both splits."""
        tested = {video.id for video in parts[TEST]}
        both = [video.id for video in parts[TRAINING] if video.id in tested]
        for name in both:
            self.error("two-splits", f"video '{name}' is trained and tested on")
        members: dict[str, dict[str, list[str]]] = {}
        for part, videos in parts.items():
            for video in videos:
                if video.id not in both:
                    members.setdefault(groups[video.id], {}).setdefault(part, []).append(video.id)
        for group, of in members.items():
            if len(of) > 1:
                shown = " and ".join(
                    f"{len(v)} {part} video{'s' * (len(v) > 1)} ('{v[0]}')" for part, v in of.items()
                )
                self.error("group-in-two-splits", f"group '{group}' has {shown}")

    def labels(self, parts: Parts) -> None:
        """Splits without a video, videos without a segment, and classes that only the test split has."""
        for part, videos in parts.items():
            if not videos and any(v.id in self.spec.exclude for v in self.annotations.videos):
                self.error("empty-split", f"no {part} video is left: 'exclude' takes all of them")
            bare = [video.id for video in videos if not len(video.labels)]
            if bare:
                self.warning("no-segments", f"{len(bare)} {part} videos have no segment, '{bare[0]}' first")
        trained, tested = ({int(k) for v in parts[part] for k in v.labels} for part in (TRAINING, TEST))
        for index in sorted(tested - trained if trained else ()):
            name = self.annotations.classes[index]
            self.warning("unknown-label", f"class '{name}' is tested but has no training segment")

    def scores(self, tested: list[AnnotatedVideo]) -> None:
        """The file of external scores, and test videos that it does not have."""
        if self.spec.scores is None:
            return
        try:
            scored = read_scores(self.spec.scores, self.annotations.classes)
        except DataError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self.error("scores", error.what + hint, error.where)
            return
        tell = self.error if self.spec.missing == "error" else self.warning
        for video in tested:
            if video.id not in scored:
                tell("scores", f"test video '{video.id}' has no external scores", self.spec.scores)


def _subsets_in(annotations: Annotations) -> Iterator[str]:
    """Names of all subsets of the file, also those that the dataset does not ask for."""
    database, _ = load_database(annotations.path)
    names = (entry.get("subset") for entry in database.values() if isinstance(entry, dict))
    yield from sorted({name for name in names if isinstance(name, str)})
