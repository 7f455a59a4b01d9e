"""Which of a person's studies are opened where none is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder
from tal_bench.results.places import PUBLISHED, REPORTS
from tal_bench.results.records import StudyRecord

VARIABLE = "TAL_BENCH_STUDY"
"""Environment variable with the folder of the study that is opened by default."""
EXAMPLE = "two-by-two-sprites"
"""Published study that is opened where no other is there."""
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
        InputError: There is no study, or no such folder.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_dir():
            raise InputError("no such folder", where=f"{VARIABLE}={named}", hint="give the folder of a study")
        return StudyChoice(Path(named), f"the study in {VARIABLE}")
    own = own_studies()
    left_out = "".join(f"; {folder.name} is left out: {why}" for folder, why in own.left_out.items())
    if own.folders:
        return StudyChoice(own.folders[0], f"your study that ended last{left_out}")
    for place in _places():
        if (published := place / PUBLISHED / EXAMPLE).is_dir():
            reason = f"a published study; none in reports/ has ended yet{left_out}"
            return StudyChoice(published, reason, published=True)
    raise InputError(
        "no study there", where=REPORTS.resolve(), hint="run `tal-bench ablate`, or give a folder"
    )


def own_studies() -> StudySelection:
    """Find the studies in `reports/` that have ended, the one that ended last first.

    Studies of budget `smoke` are left out unless there are no others, and so are those that cannot be read.
    """
    ended: dict[Path, StudyRecord] = {}
    left_out: dict[Path, str] = {}
    for file in sorted(file for place in _places() for file in (place / REPORTS).glob("*/study.json")):
        try:
            record = StudyFolder(file.parent).read_study()
        except InputError as error:
            left_out[file.parent] = f"it cannot be read ({error.what})"
            continue
        if record.finished is not None and (file.parent / "summary.json").is_file():
            ended[file.parent] = record
    folders = sorted(ended, key=lambda folder: ended[folder].finished or "", reverse=True)
    smoke = {folder: SMOKE for folder in folders if ended[folder].spec.budget == "smoke"}
    if len(smoke) < len(folders):
        left_out |= smoke
    return StudySelection(tuple(folder for folder in folders if folder not in left_out), left_out)


def _places() -> tuple[Path, ...]:
    """Return the folders that may hold `reports/`: the working directory, and for notebooks the one above."""
    return (Path(), Path("..")) if any(Path().glob("*.ipynb")) else (Path(),)
