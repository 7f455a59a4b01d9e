"""Where the frames of a dataset's videos come from: its declaration, or the files that it was made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tal_bench.config import DatasetSpec
from tal_bench.config.extraction import Extraction
from tal_bench.corruptions.registry import Frame
from tal_bench.data.registry import datasets
from tal_bench.errors import DataError, InputError
from tal_bench.extraction.decoding import VideoReader
from tal_bench.extraction.video_files import MANIFEST


def has_footage(dataset: DatasetSpec) -> bool:
    """Whether the declaration of a dataset gives frames."""
    return dataset.name in datasets and datasets.get(dataset.name).footage is not None


def video_files(dataset: DatasetSpec, streams: Sequence[str], videos: Sequence[str]) -> dict[str, Path]:
    """Files that `features extract` made a dataset's features of; empty where it did not.

    Raises:
        DataError: a file is not there any more.
    """
    manifest = dataset.modalities[streams[0]].folder.parent / MANIFEST
    try:
        known: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["videos"]
        files = {video: Path(known[video]["file"]) for video in videos}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise DataError("does not say what features were made of", where=manifest) from None
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        others = f", and {len(missing) - 1} others" if len(missing) > 1 else ""
        hint = "bring the videos back, or --level features"
        raise DataError(f"no such video any more{others}", where=missing[0], hint=hint)
    return files


def frames_of(dataset: str, video: str, file: Path | None, extraction: Extraction) -> Iterable[Frame]:
    """Frames of a video, at the rate and size that its features were made at.

    Args:
        dataset: name, whose declaration gives the frames where there is no file.
        video: its id.
        file: to decode, or none.
        extraction: what made the features.
    """
    if file is not None:
        return VideoReader(file, fps=extraction.fps, size=extraction.size)
    footage = datasets.get(dataset).footage
    if footage is None:
        raise InputError(f"dataset '{dataset}' comes without videos", hint="--level features")
    return footage(video)
