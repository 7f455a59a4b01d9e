"""Collect the rows of several studies and of files of detections, and compare all pairs and mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tal_bench.errors import InputError
from tal_bench.evaluation.all_pairs import compare_all_pairs
from tal_bench.evaluation.label_alignment import LabelReading
from tal_bench.evaluation.ranks import mean_ranks, outcomes
from tal_bench.evaluation.significance import Interval, RowSample, contrast
from tal_bench.report.comparison.data import (
    COMPARED,
    DETECTIONS,
    HEADINGS,
    ComparedDataset,
    ComparedRow,
    StudyComparison,
)
from tal_bench.report.comparison.detections import DetectionFile, place_files, sample_file
from tal_bench.report.comparison.studies import OpenedStudy, open_studies, repeated_rows, study_names
from tal_bench.report.study.collect import DIFFERENCE, collect, percent


def compare(
    studies: Sequence[Path | str],
    *,
    detections: Mapping[str, Path | str | Sequence[Path | str]] | None = None,
    rows: Sequence[str] = (),
    labels: LabelReading = "auto",
) -> StudyComparison:
    """Put studies of one or several datasets side by side, as `tal-bench compare` does.

    Differences have intervals that are simultaneous for all pairs of compared rows of a dataset. By default
    students and files of detections are compared; teachers and references are shown.

    Args:
        studies: Folders of studies, finished or not.
        detections: Detections of other programs by the name of their row: a file, or one per dataset. Names
            of videos and labels are aligned with the ground truth of the dataset that has the videos.
        rows: Names of the rows to show and to compare, of any kind; empty for the default.
        labels: Whether labels of the files are class names or values of `label_id`; `auto` to tell from each
            file.

    Raises:
        InputError: Studies do not compare (other data, test videos, tIoU thresholds or AP method on the same
            dataset), a folder contains no study or has only one test video, or a name is unknown or taken.
        DataError: A file is missing or malformed, or fits none or several of the datasets.
    """
    opened = open_studies([Path(folder) for folder in studies])
    repeated = repeated_rows(opened)
    files = place_files(detections or {}, opened, labels)
    known = dict.fromkeys(name for group in opened.values() for name in _names(group, repeated))
    for name in files:
        if name in known:
            hint = "give the file another name"
            raise InputError("is the name of a row of a study", where=f"detections {name}", hint=hint)
    for name in rows:
        if name not in known and name not in files:
            hint = f"known: {', '.join([*known, *files])}"
            raise InputError("no such row", where=f"row {name}", hint=hint)
    datasets = tuple(
        _dataset(name, group, repeated, {n: f[name] for n, f in files.items() if name in f}, set(rows))
        for name, group in opened.items()
    )
    ranks = mean_ranks([dataset.compared for dataset in datasets])
    return StudyComparison(datasets, ranks, outcomes([d.comparison for d in datasets if d.comparison]))


def _names(studies: Sequence[OpenedStudy], repeated: set[str]) -> list[str]:
    labels = study_names(studies)
    return [
        _shown_name(label, name, repeated)
        for label, study in zip(labels, studies, strict=True)
        for name in study.row_names
    ]


def _shown_name(study: str, row: str, repeated: set[str]) -> str:
    return f"{study}/{row}" if row in repeated else row


def _dataset(
    name: str,
    opened: Sequence[OpenedStudy],
    repeated: set[str],
    files: Mapping[str, DetectionFile],
    chosen: set[str],
) -> ComparedDataset:
    """Read the runs of the studies of a dataset, and compare its rows."""
    studies = {label: collect(study.folder) for label, study in zip(study_names(opened), opened, strict=True)}
    found = [
        ComparedRow(
            name=_shown_name(label, row.name, repeated),
            kind=row.record.kind,
            study=label,
            sample=data.samples.get(row.name),
            row=row,
            difference=row.differences.get("none"),
        )
        for label, data in studies.items()
        for row in data.rows
    ]
    baseline = next((r.sample for r in found if r.row and r.row.name == "none" and r.sample), None)
    most = max((len(row.sample.average) for row in found if row.sample), default=1)
    for label, file in files.items():
        # One trained model stands beside every seed, so that its differences are those of the means.
        sample = sample_file(file, opened[0]).select_seeds([0] * most)
        found.append(ComparedRow(label, DETECTIONS, "", sample, None, _difference(sample, baseline)))
    shown = [
        row for kind in HEADINGS for row in found if row.kind == kind and (not chosen or row.name in chosen)
    ]
    samples = {row.name: row.sample for row in shown if row.sample and (chosen or row.kind in COMPARED)}
    comparison = compare_all_pairs(samples) if len(samples) > 1 else None
    return ComparedDataset(name, studies, tuple(shown), comparison, files)


def _difference(sample: RowSample, baseline: RowSample | None) -> Interval | None:
    if baseline is None:
        return None
    seeds = range(len(baseline.average))
    return percent(contrast([sample.select_seeds(seeds), baseline], DIFFERENCE))
