"""Detect actions in video files: extract the features that a model was trained on, then run the model.

In Python:

    from tal_bench.inference.detect import detect
    result = detect(["match.mp4"], "reports/train-sprites/runs/1a2b.safetensors")
    print(result.table)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tal_bench.config import DatasetSpec
from tal_bench.data.dataset import Video
from tal_bench.data.feature_grid import timing
from tal_bench.data.features import in_memory, open_streams
from tal_bench.errors import InputError
from tal_bench.extraction.video_files import VideoRecord, extract_files, find_videos, load_streams
from tal_bench.inference.detections import detections_csv, detections_json, detections_table
from tal_bench.models.checkpoint import ModelCard, load_model
from tal_bench.training.device import Device, choose_device
from tal_bench.training.prediction import predict
from tal_bench.types import VideoMeta

COLUMNS = ("video", "start", "end", "label", "score")


@dataclass
class DetectionResult:
    """Detections in videos.

    Attributes:
        table: Columns video, start, end (seconds), label, score; by decreasing score within a video.
        videos: Extraction record by id of the video; failed videos have no detections.
        files: Video file by id.
        classes: Names of the model's classes.
    """

    table: pd.DataFrame
    videos: dict[str, VideoRecord]
    files: dict[str, Path]
    classes: tuple[str, ...] = field(default=())

    def csv(self) -> str:
        """Return the detections as CSV, whose text has quotes, so that names are read back as they are."""
        return detections_csv(self.table)

    def json(self) -> dict[str, Any]:
        """Return the detections in ActivityNet format, with every usable video, even without detections."""
        usable = (name for name, record in self.videos.items() if record.status != "failed")
        detections: dict[str, Any] = detections_json(self.table)["results"]
        return {"results": {name: detections.get(name, []) for name in usable}}


def detect(
    videos: Sequence[Path | str],
    model: Path | str,
    *,
    threshold: float = 0.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionResult:
    """Detect actions in video files.

    Args:
        videos: Video files, or folders of them.
        model: Weights file, or the `.json` file of a run.
        threshold: Minimum score of the detections.
        device: Device of the networks.
        jobs: Number of processes for the extraction of features.
        progress: Callback for (videos done, total) during the extraction.

    Raises:
        InputError: The model does not exist, its features were not extracted by this program, or weights of
            the networks that extract them are missing.
    """
    net, card = load_model(Path(model))
    if card.extraction is None or card.dataset is None:
        raise InputError(
            f"has no extraction settings for its features{_origin(card)}",
            where=model,
            hint="give a model trained on features of 'tal-bench features extract', or on sprites",
        )
    files = find_videos([Path(video) for video in videos])
    chosen_device = choose_device(device)
    # report missing weights once, before any video is read
    load_streams(card.extraction.model_dump_json(), "cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        outcome = extract_files(
            files, folder, card.extraction, jobs=jobs, device=chosen_device, progress=progress
        )
        data = _with_folder(card.dataset, folder, card.detector.reads)
        usable = [_read_video(data, record) for record in outcome.with_status("ok", "truncated")]
    segments = list(predict(net, card.detector, usable, card.decode, Device(chosen_device))) if usable else []
    classes = card.classes or tuple(map(str, range(card.detector.classes)))
    table = detections_table(segments, classes) if segments else pd.DataFrame(columns=list(COLUMNS))
    order = {name: index for index, name in enumerate(files)}
    table = table[table["score"] >= threshold]
    table = table.sort_values("video", key=lambda ids: ids.map(order), kind="stable")
    records = {record.id: record for record in outcome.records}
    return DetectionResult(table.reset_index(drop=True), records, files, classes)


def _origin(card: ModelCard) -> str:
    return f" ({card.dataset.name})" if card.dataset else f" ({card.program})" if card.program else ""


def _with_folder(dataset: DatasetSpec, folder: Path, names: Sequence[str]) -> DatasetSpec:
    """Return the dataset with its streams in another folder."""
    streams: Mapping[str, Any] = {
        name: dataset.modalities[name].model_copy(update={"folder": folder / name}) for name in names
    }
    return dataset.model_copy(update={"modalities": dict(streams)})


def _read_video(data: DatasetSpec, record: VideoRecord) -> Video:
    opened = open_streams(data, record.id, tuple(data.modalities))
    steps = len(next(iter(opened.values())))
    grid = timing(data, steps, fps=record.fps, duration=record.duration)
    return Video(
        meta=VideoMeta(record.id, record.duration, record.fps, grid.stride, grid.window, offset=grid.offset),
        features=in_memory(data, record.id, opened),
        segments=np.empty((0, 2), np.float32),
        labels=np.empty(0, np.int64),
        segments_seconds=np.empty((0, 2)),
        steps=grid.steps,
    )
