"""Which of a person's studies are opened where none is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.places import PUBLISHED, REPORTS

VARIABLE = "TAL_BENCH_STUDY"
"""Environment variable with the folder of the study that is opened by default."""
EXAMPLE = "two-by-two-sprites"
"""Published study that is opened where no other is there."""
PLACES = (Path(), Path(".."))
"""Folders that may hold `reports/`: the working directory and, for notebooks, the one above it."""
SMOKE = "budget smoke is a functional test"
"""Why studies of budget `smoke` are not used."""


@dataclass(frozen=True)
class StudySelection:
    """Studies that are used, and those that are not.

    Attributes:
        folders: Folders of the studies that are used.
        left_out: Why a study is not used, by its folder.
    """

    folders: tuple[Path, ...]
    left_out: Mapping[Path, str]


@dataclass(frozen=True)
class StudyChoice:
    """The study that is opened where none is named.

    Attributes:
        folder: Folder of the study, or of a report without its runs.
        reason: Why this one.
        published: Whether it is a published one, for want of an own one.
    """

    folder: Path
    reason: str
    published: bool = False

    def __str__(self) -> str:
        return f"{self.folder}, {self.reason}"


def choose_study() -> StudyChoice:
    """Choose the study that `load_results`, the notebooks and `make lab` open where none is named.

    It is the folder in the environment variable `TAL_BENCH_STUDY`, else the first of `own_studies`, else the
    published study of `sprites`.

    Raises:
        InputError: There is no study.
    """
    if named := os.environ.get(VARIABLE):
        return StudyChoice(Path(named), f"the study in {VARIABLE}")
    own = own_studies()
    if own.folders:
        left_out = "".join(f"; {folder.name} is left out: {why}" for folder, why in own.left_out.items())
        return StudyChoice(own.folders[0], f"your study that ended last{left_out}")
    for place in PLACES:
        if (published := place / PUBLISHED / EXAMPLE).is_dir():
            return StudyChoice(published, "a published study; you have none in reports/ yet", published=True)
    raise InputError(
        "no study there", where=REPORTS.resolve(), hint="run `tal-bench ablate`, or give a folder"
    )


def own_studies() -> StudySelection:
    """Find the studies in `reports/` that have ended, the one that ended last first.

    Studies of budget `smoke` are left out unless there are no others.
    """
    records = [file for place in PLACES for file in (place / REPORTS).glob("*/study.json")]
    ended = [file for file in records if (file.parent / "summary.json").is_file()]
    ended.sort(key=lambda file: (file.stat().st_mtime, str(file)), reverse=True)
    folders = tuple(file.parent for file in ended)
    smoke = {folder: SMOKE for folder in folders if _is_smoke(folder)}
    if len(smoke) == len(folders):
        return StudySelection(folders, {})
    return StudySelection(tuple(folder for folder in folders if folder not in smoke), smoke)


def _is_smoke(folder: Path) -> bool:
    """Tell whether a study has budget `smoke`; one that cannot be read has its error when it is opened."""
    try:
        return StudyFolder(folder).read_study().spec.budget == "smoke"
    except InputError:
        return False
