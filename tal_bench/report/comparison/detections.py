"""Files of detections of other programs as rows of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tal_bench.config import brief
from tal_bench.errors import DataError, InputError
from tal_bench.evaluation.detection_table import abbreviate
from tal_bench.evaluation.evaluate import AlignedDetections, align_detections
from tal_bench.evaluation.files import read_detections
from tal_bench.evaluation.label_alignment import LabelReading, align_videos
from tal_bench.evaluation.matching import match
from tal_bench.evaluation.mean_ap import thumos_match
from tal_bench.evaluation.significance import RowSample, sample_row
from tal_bench.report.comparison.studies import OpenedStudy


@dataclass(frozen=True, eq=False)
class DetectionFile:
    """Detections of another program on the test videos of a dataset.

    Attributes:
        path: File.
        detections: Detections with the names of the ground truth.
    """

    path: Path
    detections: AlignedDetections


def place_files(
    given: Mapping[str, Path | str | Sequence[Path | str]],
    datasets: Mapping[str, Sequence[OpenedStudy]],
    labels: LabelReading,
) -> dict[str, dict[str, DetectionFile]]:
    """Return the files of each row by the dataset that has their videos.

    Raises:
        InputError: A row has several files of one dataset.
        DataError: A file is missing or malformed, or fits none or several of the datasets.
    """
    placed: dict[str, dict[str, DetectionFile]] = {}
    for name, files in given.items():
        own = placed.setdefault(name, {})
        for file in map(Path, [files] if isinstance(files, Path | str) else files):
            table = read_detections(file)
            dataset = _dataset_of(table, file, datasets)
            if dataset in own:
                hint = "give the files of different trainings different names"
                text = f"{own[dataset].path} and {file} are both detections on {dataset}"
                raise InputError(text, where=f"detections {name}", hint=hint)
            aligned = align_detections(table, datasets[dataset][0].truth, file, labels)
            own[dataset] = DetectionFile(file, aligned)
    return placed


def _dataset_of(table: pd.DataFrame, file: Path, datasets: Mapping[str, Sequence[OpenedStudy]]) -> str:
    """Return the dataset whose test videos the detections of a file are in."""
    fits: list[str] = []
    for name, studies in datasets.items() if not table.empty else ():
        try:
            align_videos(table, studies[0].videos, where=file)
        except DataError:
            continue
        fits.append(name)
    if len(fits) == 1:
        return fits[0]
    if fits:
        hint = "compare these datasets one at a time"
        raise DataError(f"has test videos of {', '.join(fits)}", where=file, hint=hint)
    known = [video for studies in datasets.values() for video in studies[0].videos]
    first = "it has no detections" if table.empty else f"its first video is {brief(table['video'].iloc[0])}"
    raise DataError(
        f"has no test video of {', '.join(datasets)}, {first}",
        where=file,
        hint=f"test videos: {abbreviate(known, 3)}",
    )


def sample_file(file: DetectionFile, study: OpenedStudy) -> RowSample:
    """Compute the average mAP of a file, measured and bootstrapped as the rows of a study of its dataset."""
    record = study.record
    match_detections = thumos_match if record.ap_method == "thumos" else match
    matches = match_detections(file.detections.table, study.truth, record.tiou, videos=study.videos)
    return sample_row([matches], groups=study.groups)
