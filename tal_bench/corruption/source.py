"""Frames of the videos of a dataset, from its declaration or from the video files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tal_bench.config import DatasetSpec
from tal_bench.config.extraction import Extraction
from tal_bench.corruption.registry import Frame
from tal_bench.data.registry import datasets
from tal_bench.errors import DataError, InputError
from tal_bench.extraction.decoding import VideoReader
from tal_bench.extraction.video_files import MANIFEST


def has_footage(dataset: DatasetSpec) -> bool:
    """Whether the declaration of a dataset provides frames."""
    return dataset.name in datasets and datasets.get(dataset.name).footage is not None


def find_video_files(dataset: DatasetSpec, streams: Sequence[str], videos: Sequence[str]) -> dict[str, Path]:
    """Return the video files by id of a dataset of `features extract`; empty for other datasets.

    Raises:
        DataError: The manifest is malformed, or a file is missing.
    """
    manifest = dataset.modalities[streams[0]].folder.parent / MANIFEST
    try:
        records: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["videos"]
        files = {video: Path(records[video]["file"]) for video in videos}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise DataError("does not name the video files of the features", where=manifest) from None
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        others = f", and {len(missing) - 1} others" if len(missing) > 1 else ""
        hint = "restore the videos, or use --level features"
        raise DataError(f"the video file is missing{others}", where=missing[0], hint=hint)
    return files


def read_frames(dataset: str, video: str, file: Path | None, extraction: Extraction) -> Iterable[Frame]:
    """Return the frames of a video at the rate and size at which its features were extracted.

    Args:
        dataset: Name of the dataset, whose declaration provides the frames if there is no file.
        video: Id of the video.
        file: Video file, or None.
        extraction: Extraction settings of the features.
    """
    if file is not None:
        return VideoReader(file, fps=extraction.fps, size=extraction.size)
    footage = datasets.get(dataset).footage
    if footage is None:
        raise InputError(f"dataset '{dataset}' has no videos", hint="use --level features")
    return footage(video)
