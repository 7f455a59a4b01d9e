"""Open the studies of a comparison, and refuse those whose numbers cannot stand side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.evaluate import select_ground_truth
from tal_bench.results.choice import StudySelection, own_studies
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import StudyRecord
from tal_bench.results.segment_files import read_groups
from tal_bench.system.files import distinct_names

SEGMENT = ["video", "start", "end", "label"]


@dataclass(frozen=True, eq=False)
class OpenedStudy:
    """A study with the ground truth of its test videos, before its runs are read.

    Attributes:
        folder: Folder of the study.
        record: Record of the study.
        truth: Ground truth as from `select_ground_truth`.
        groups: Group of each test video; None if videos are not grouped.
    """

    folder: Path
    record: StudyRecord
    truth: pd.DataFrame
    groups: Mapping[str, str] | None

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the test videos."""
        return tuple(self.truth.attrs["videos"])

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the rows."""
        return tuple(row.name for row in self.record.rows)

    @cached_property
    def segments(self) -> list[tuple[object, ...]]:
        """Segments of the ground truth, sorted."""
        return sorted(self.truth[SEGMENT].itertuples(index=False, name=None))


def open_studies(folders: Sequence[Path]) -> dict[str, list[OpenedStudy]]:
    """Open studies and return them by dataset.

    Raises:
        InputError: A folder is given twice or contains no study, or studies do not compare; the message says
            which studies and why.
    """
    if not folders:
        raise InputError("no study given", where="compare", hint="give folders of studies")
    paths = [folder.resolve() for folder in folders]
    opened: dict[str, list[OpenedStudy]] = {}
    for index, folder in enumerate(folders):
        if paths[index] in paths[:index]:
            raise InputError("given twice", where=folder, hint="name each study once")
        _add(_open(folder), opened)
    return opened


def comparable_studies() -> StudySelection:
    """Select those of your studies in `reports/` that `compare` can put side by side.

    The one that ended last is used, and of the others those that compare with the ones already used; studies
    of budget `smoke` are left out unless there are no others.
    """
    own = own_studies()
    opened: dict[str, list[OpenedStudy]] = {}
    left_out = dict(own.left_out)
    for folder in own.folders:
        try:
            _add(_open(folder), opened)
        except InputError as error:
            left_out[folder] = error.what if error.where == folder else str(error)
    return StudySelection(tuple(folder for folder in own.folders if folder not in left_out), left_out)


def _add(study: OpenedStudy, opened: dict[str, list[OpenedStudy]]) -> None:
    """Add a study to those of its dataset.

    Raises:
        InputError: It does not compare with them.
    """
    others = [known for studies in opened.values() for known in studies]
    same = next((known for known in others if _has_same_data(known, study)), None)
    if same is not None:
        check_comparable(same, study)
    opened.setdefault(same.record.dataset if same else study.record.dataset, []).append(study)


def _open(folder: Path) -> OpenedStudy:
    record = StudyFolder(folder).read_study()
    file = folder / "ground_truth.json"
    study = OpenedStudy(folder, record, select_ground_truth(file, None, ()), read_groups(file))
    units = set(study.groups.values()) if study.groups else set(study.videos)
    if len(units) < 2:
        kind = "group of test videos" if study.groups else "test video"
        raise InputError(f"only one {kind}: no interval can be computed", where=folder)
    return study


def _has_same_data(a: OpenedStudy, b: OpenedStudy) -> bool:
    return a.record.dataset == b.record.dataset or a.record.fingerprint == b.record.fingerprint


@dataclass(frozen=True)
class Requirement:
    """What studies of one dataset must have in common.

    Attributes:
        violated: What the message says if they do not.
        value: Function that returns what must be equal.
        shown: Function that describes the value of the first study beside that of the second one.
        hint: Advice on what to do.
    """

    violated: str
    value: Callable[[OpenedStudy], object]
    shown: Callable[[OpenedStudy, OpenedStudy], str]
    hint: str


SAME_VIDEOS = "compare studies that were tested on the same videos"
REQUIREMENTS = (
    Requirement(
        "other features or annotations",
        lambda study: study.record.fingerprint,
        lambda own, other: f"fingerprint {own.record.fingerprint}",
        "compare studies that were run on the same files",
    ),
    Requirement(
        "another AP method",
        lambda study: study.record.ap_method,
        lambda own, other: own.record.ap_method,
        "the two differ by several points",
    ),
    Requirement(
        "other tIoU thresholds",
        lambda study: study.record.tiou,
        lambda own, other: ", ".join(f"{level:g}" for level in own.record.tiou),
        "score the detections of both on one grid with tal-bench evaluate",
    ),
    Requirement(
        "other test videos",
        lambda study: set(study.videos),
        lambda own, other: (
            f"{len(own.videos)} videos ({len(set(own.videos) - set(other.videos))} of its own)"
        ),
        SAME_VIDEOS,
    ),
    Requirement(
        "other annotations of the test videos",
        lambda study: study.segments,
        lambda own, other: f"{len(set(own.segments) - set(other.segments))} segments of its own",
        SAME_VIDEOS,
    ),
    Requirement(
        "other groups of test videos",
        lambda study: study.groups,
        lambda own, other: f"{len(set((own.groups or {}).values()))} groups",
        SAME_VIDEOS,
    ),
)
"""What studies of one dataset must have in common, in the order in which it is checked."""


def check_comparable(known: OpenedStudy, added: OpenedStudy) -> None:
    """Check that two studies of one dataset have the same data, test videos, tIoU grid and AP method.

    Raises:
        InputError: They do not.
    """
    for required in REQUIREMENTS:
        if required.value(known) != required.value(added):
            values = f"{required.shown(added, known)} here and {required.shown(known, added)} there"
            place = f"{known.folder} on {known.record.dataset}"
            raise InputError(
                f"not comparable with {place}: {required.violated}, {values}",
                where=added.folder,
                hint=required.hint,
            )


def study_names(studies: Sequence[OpenedStudy]) -> list[str]:
    """Return a name for each study of a dataset: its own, or its folder's where several have the same."""
    own = [study.record.spec.name for study in studies]
    folders = distinct_names([study.folder.resolve() for study in studies])
    return [name if own.count(name) == 1 else folder for name, folder in zip(own, folders, strict=True)]


def repeated_rows(datasets: Mapping[str, Sequence[OpenedStudy]]) -> set[str]:
    """Return the names of rows that several studies of one dataset have."""
    return {
        name
        for studies in datasets.values()
        for index, study in enumerate(studies)
        for name in study.row_names
        if any(name in other.row_names for other in studies[:index])
    }
