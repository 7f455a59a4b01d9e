"""Raw video in, detections out: features of the kind that a model was trained on, then the model.

In Python:

    from tal_bench.inference.detect import detect
    found = detect(["match.mp4"], "reports/train-sprites/runs/1a2b.safetensors")
    print(found.table)
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
from tal_bench.inference.detections import detections_json, detections_table
from tal_bench.models.checkpoint import ModelCard, load_model
from tal_bench.training.device import Device, choose_device
from tal_bench.training.prediction import predict
from tal_bench.types import VideoMeta

COLUMNS = ("video", "start", "end", "label", "score")


@dataclass
class Found:
    """Detections in videos.

    Attributes:
        table: video, start, end (seconds), label, score; best first within a video.
        videos: id to what became of the file; failed ones have no detections.
        files: id to file.
        classes: names of the model's labels.
    """

    table: pd.DataFrame
    videos: dict[str, VideoRecord]
    files: dict[str, Path]
    classes: tuple[str, ...] = field(default=())

    def json(self) -> dict[str, Any]:
        """ActivityNet-style, every usable video in it, also those without detections."""
        usable = (name for name, record in self.videos.items() if record.status != "failed")
        known: dict[str, Any] = detections_json(self.table)["results"]
        return {"results": {name: known.get(name, []) for name in usable}}


def detect(
    videos: Sequence[Path | str],
    model: Path | str,
    *,
    threshold: float = 0.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Detect actions in video files.

    Args:
        videos: files, or folders of them.
        model: weights, or the `.json` of a run.
        threshold: detections with lower scores are left out.
        device: of the networks.
        jobs: processes that make features.
        progress: called with (videos done, videos in all) while features are made.

    Raises:
        InputError: no such model, one whose features are not of this program's making, or whose networks'
            weights are missing.
    """
    net, card = load_model(Path(model))
    if card.extraction is None or card.dataset is None:
        raise InputError(
            f"nobody knows how to make its features{_kind(card)} of a video",
            where=model,
            hint="train it on features that 'tal-bench features extract' made, or on sprites",
        )
    files = find_videos([Path(video) for video in videos])
    where = choose_device(device)
    load_streams(card.extraction.model_dump_json(), where)  # weights that are missing are said once, and now
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        outcome = extract_files(files, folder, card.extraction, jobs=jobs, device=where, progress=progress)
        data = _in_folder(card.dataset, folder, card.detector.reads)
        usable = [_read(data, record) for record in outcome.with_status("ok", "truncated")]
    segments = list(predict(net, card.detector, usable, card.decode, Device(where))) if usable else []
    classes = card.classes or tuple(map(str, range(card.detector.classes)))
    table = detections_table(segments, classes) if segments else pd.DataFrame(columns=list(COLUMNS))
    order = {name: place for place, name in enumerate(files)}
    table = table[table["score"] >= threshold]
    table = table.sort_values("video", key=lambda ids: ids.map(order), kind="stable")
    records = {record.id: record for record in outcome.records}
    return Found(table.reset_index(drop=True), records, files, classes)


def _kind(card: ModelCard) -> str:
    return f" ({card.dataset.name})" if card.dataset else f" ({card.program})" if card.program else ""


def _in_folder(dataset: DatasetSpec, folder: Path, names: Sequence[str]) -> DatasetSpec:
    """The dataset's own ways with features, for files made a moment ago."""
    streams: Mapping[str, Any] = {
        name: dataset.modalities[name].model_copy(update={"folder": folder / name}) for name in names
    }
    return dataset.model_copy(update={"modalities": dict(streams)})


def _read(data: DatasetSpec, record: VideoRecord) -> Video:
    opened = open_streams(data, record.id, tuple(data.modalities))
    steps = len(next(iter(opened.values())))
    at = timing(data, steps, fps=record.fps, duration=record.duration)
    return Video(
        meta=VideoMeta(record.id, record.duration, record.fps, at.stride, at.window, offset=at.offset),
        features=in_memory(data, record.id, opened),
        segments=np.empty((0, 2), np.float32),
        labels=np.empty(0, np.int64),
        segments_seconds=np.empty((0, 2)),
        steps=at.steps,
    )
