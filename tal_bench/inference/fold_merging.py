"""Merging of the studies of all folds of a cross-validation into one, in which every video is tested once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tal_bench.config import DatasetSpec, content_hash
from tal_bench.errors import InputError
from tal_bench.inference import scoring
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, StudyRecord
from tal_bench.results.segment_files import read_result_file, read_segments
from tal_bench.system.files import write_atomically

Truth = tuple[pd.DataFrame, list[str]]
"""Segments of the ground truth, and the names of all videos."""


def merge_folds(parts: Sequence[Path], target: Path, dataset: DatasetSpec, command: str) -> StudyRecord:
    """Write the study of all folds: for every row and seed, the detections of all folds together.

    mAP is computed over the videos of all folds. Settings were chosen in every fold by itself and are not
    merged; costs are those of the first fold.

    Args:
        parts: Folders of the studies of the folds, in the order of the folds.
        target: Folder of the merged study.
        dataset: Dataset, whose AP method and thresholds are used.
        command: Command that made the studies.

    Raises:
        InputError: A study is missing, has other rows than the first, or a file is malformed.
    """
    folders = [StudyFolder(path) for path in parts]
    records = [folder.read_study() for folder in folders]
    first = records[0]
    names = [row.name for row in first.rows]
    for folder, record in zip(folders, records, strict=True):
        if [row.name for row in record.rows] != names:
            raise InputError(
                "has other rows than the first fold", where=folder.path, hint="run the same command again"
            )
    merged = StudyFolder(target)
    databases = [json.loads((path / "ground_truth.json").read_text(encoding="utf-8")) for path in parts]
    database = {video: entry for value in databases for video, entry in value["database"].items()}
    write_atomically(target / "ground_truth.json", json.dumps({"database": database}))
    truth = read_segments(target / "ground_truth.json")
    rows = [
        _merged_row(merged, folders, [record.rows[k] for record in records], dataset, truth)
        for k in range(len(names))
    ]
    record = first.model_copy(
        update={
            "spec": first.spec.model_copy(update={"folds": "all"}),
            "command": command,
            "test_videos": len(database),
            "evaluation": f"{scoring.metric(dataset)}, on all {len(parts)} folds",
            "rows": tuple(rows),
            "searches": (),
            "skipped": {video: why for part in records for video, why in part.skipped.items()},
            "finished": None if any(part.finished is None for part in records) else records[-1].finished,
        }
    )
    merged.write_study(record)
    return record


def _merged_row(
    merged: StudyFolder,
    folders: Sequence[StudyFolder],
    rows: Sequence[RowRecord],
    dataset: DatasetSpec,
    truth: Truth,
) -> RowRecord:
    first = rows[0]
    finals = []
    for k, _ in enumerate(first.seeds):
        hashes = [row.finals[k] for row in rows if k < len(row.finals)]
        finals.append(content_hash(hashes))
        if len(hashes) == len(rows):
            _merge_runs(merged, folders, hashes, finals[-1], dataset, truth)
    if first.cost and (cost := folders[0].read_cost(first.cost)):
        merged.write_cost(cost)
    if first.training and (training := folders[0].read_training_cost(first.training)):
        merged.write_cost(training)
    return first.model_copy(
        update={
            "settings": {},
            "trials": (),
            "confirmations": (),
            "chosen": "",
            "finals": tuple(finals),
        }
    )


def _merge_runs(
    merged: StudyFolder,
    folders: Sequence[StudyFolder],
    hashes: Sequence[str],
    name: str,
    dataset: DatasetSpec,
    truth: Truth,
) -> None:
    """Write the result of a seed over all folds, unless a fold has none."""
    runs = [folder.read_run(hash_) for folder, hash_ in zip(folders, hashes, strict=True)]
    ended = [run for run in runs if run is not None]
    if len(ended) < len(runs):
        return
    failed = next((run for run in ended if run.status != "finished"), None)
    if failed is not None:
        merged.write_run(failed.model_copy(update={"hash": name, "files": {}}))
        return
    found: dict[str, object] = {}
    for folder, run in zip(folders, ended, strict=True):
        file = folder.run_file(run.hash, ".detections.json")
        found |= json.loads(file.read_text(encoding="utf-8"))["results"]
    file = merged.run_file(name, ".detections.json")
    write_atomically(file, json.dumps({"results": found}, separators=(",", ":")))
    segments, videos = truth
    metrics, per_class = scoring.metrics(dataset, read_result_file(file), segments, videos)
    merged.write_run(
        ended[0].model_copy(
            update={
                "hash": name,
                "metrics": metrics,
                "per_class": per_class,
                "videos": len(videos),
                "history": (),
                "timings": {},
                "files": merged.digests(name),
            }
        )
    )
