"""Input of a diagnosis: the runs of a study, or detection files of any program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tal_bench.errors import InputError
from tal_bench.evaluation.files import read_ground_truth
from tal_bench.evaluation.label_alignment import LabelReading
from tal_bench.evaluation.sensitivity import read_durations
from tal_bench.report.common.markup import code
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord

AMBIGUOUS = "Ambiguous"
"""Label of ambiguous segments of THUMOS'14, which belong to no class."""


@dataclass(frozen=True)
class Source:
    """Detections and ground truth of a diagnosis.

    Attributes:
        title: Title of figures and tables.
        provenance: Sentences on the origin of the detections.
        rows: Runs of each row, given by seed (None for files) and detection file.
        students: Names of the student rows, which are compared with each other; all rows for files.
        truth: Ground truth with `.attrs["videos"]`.
        durations: Known durations of videos in seconds.
        thresholds: tIoU thresholds.
        notes: Notes that are needed to interpret the result.
        labels: Whether labels of the detections are names or ids; those of a study are names.
    """

    title: str
    provenance: tuple[str, ...]
    rows: Mapping[str, Sequence[tuple[int | None, Path]]]
    students: tuple[str, ...]
    truth: pd.DataFrame
    durations: Mapping[str, float]
    thresholds: tuple[float, ...]
    notes: tuple[str, ...] = ()
    labels: LabelReading = "names"


def study_source(folder: Path, thresholds: Sequence[float] | None = None) -> Source:
    """Return the final runs of a finished or unfinished study.

    Raises:
        InputError: The folder contains no study, or the study has no detections.
    """
    files = StudyFolder(folder)
    record = files.read_study()
    truth_file = folder / "ground_truth.json"
    truth = read_ground_truth(truth_file)
    if record.ap_method == "thumos":  # the matching of the diagnosis does not support ambiguous segments
        attrs, truth = truth.attrs, truth[truth["label"] != AMBIGUOUS].reset_index(drop=True)
        truth.attrs.update(attrs)
    order = ("teacher", "reference", "student")
    records = [row for kind in order for row in record.rows if row.kind == kind]
    rows = {row.name: _finals(files, row) for row in records}
    notes = [
        f"{code(row.name)} has {len(rows[row.name])} of {len(row.finals)} runs."
        for row in records
        if len(rows[row.name]) < len(row.finals)
    ]
    if record.ap_method == "thumos":
        notes.append(
            "The diagnosis uses the matching of ActivityNet; the tables of the study use that of THUMOS'14."
        )
    rows = {name: runs for name, runs in rows.items() if runs}
    if not rows:
        raise InputError("no run has detections", where=folder, hint="wait for the first final run")
    return Source(
        title=f"{record.spec.name}: {record.dataset}",
        provenance=_provenance(files, record),
        rows=rows,
        students=tuple(row.name for row in records if row.kind == "student" and row.name in rows),
        truth=truth,
        durations=read_durations(truth_file),
        thresholds=tuple(thresholds or record.tiou),
        notes=tuple(notes),
    )


def has_detections(folder: Path) -> bool:
    """Return whether the folder of a study has its ground truth and the detections of a row's final run."""
    if not all((folder / name).is_file() for name in ("study.json", "ground_truth.json")):
        return False
    files = StudyFolder(folder)
    return any(_finals(files, row) for row in files.read_study().rows)


def _finals(files: StudyFolder, row: RowRecord) -> list[tuple[int | None, Path]]:
    runs = [
        (seed, files.run_file(hash_, ".detections.json"))
        for seed, hash_ in zip(row.seeds, row.finals, strict=False)
    ]
    return [(seed, file) for seed, file in runs if file.is_file()]


def _provenance(files: StudyFolder, record: StudyRecord) -> tuple[str, ...]:
    runs = (files.read_run(hash_) for row in record.rows for hash_ in row.finals)
    commits = {run.environment.get("commit", "") for run in runs if run is not None} - {""}
    return (
        f"Study: {record.command}",
        f"Commit: {', '.join(sorted(commits)) or 'unknown'}",
        f"Data: {record.dataset}, fingerprint {record.fingerprint}, {record.test_videos} test videos",
        f"Date: {record.finished or 'unfinished'}",
    )


def files_source(
    names: Sequence[str],
    files: Sequence[Path],
    ground_truth: Path,
    subset: str | None,
    tiou: Sequence[float],
    labels: LabelReading = "auto",
) -> Source:
    """Return detection files of any program, one per row.

    Raises:
        DataError: The ground truth is missing or malformed.
        InputError: The subset has no segments.
    """
    truth = read_ground_truth(ground_truth, subset, drop_reversed=True)
    if truth.empty:
        raise InputError(
            f"subset '{subset}' has no segments", where=ground_truth, hint="give another --subset"
        )
    return Source(
        title=f"{ground_truth.name}{f', subset {subset}' if subset else ''}",
        provenance=(f"Detections: {', '.join(file.name for file in files)}",),
        rows={name: [(None, file)] for name, file in zip(names, files, strict=True)},
        students=tuple(names),
        truth=truth,
        durations=read_durations(ground_truth),
        thresholds=tuple(tiou),
        labels=labels,
    )
