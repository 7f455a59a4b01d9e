"""Cache of the features of corrupted videos, one file per video, stream and condition."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec
from tal_bench.config.extraction import Extraction
from tal_bench.corruption.extract import ChangedFeatures, Grid, SourceVideo, corrupt_video
from tal_bench.corruption.registry import Condition
from tal_bench.corruption.source import read_frames
from tal_bench.data.dataset import Video
from tal_bench.data.features import feature_path, in_memory, load_array, open_streams
from tal_bench.errors import DataError
from tal_bench.extraction.video_files import load_streams

FOLDER = "corrupted"


@dataclass(frozen=True, slots=True)
class Store:
    """Cache of the features of a dataset's corrupted videos.

    Attributes:
        root: Folder of the user's cache.
        dataset: Dataset, with its fingerprint.
        extraction: Extraction settings of its features.
        seed: Seed of the random numbers.
    """

    root: Path
    dataset: DatasetSpec
    extraction: Extraction
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""
        return self.root / FOLDER / f"{self.dataset.name}-{self.dataset.fingerprint}"

    def file(self, video: str, stream: str, condition: Condition) -> Path:
        """Return the file of the features that a corruption changes in one stream of one video."""
        settings = self.extraction.model_copy(update={"streams": {stream: self.extraction.streams[stream]}})
        name = f"{stream}-{settings.hash[:8]}"
        return self.folder / name / condition.folder(self.seed) / f"{video}.npz"

    def missing(self, video: str, conditions: Sequence[Condition]) -> list[Condition]:
        """Return the conditions of a video that lack a file."""
        streams = self.extraction.streams
        return [c for c in conditions if not all(self.file(video, s, c).is_file() for s in streams)]

    def fill(self, video: Video, file: Path | None, conditions: Sequence[Condition]) -> None:
        """Corrupt a video and write the features that change.

        Args:
            video: Video with its segments.
            file: Video file; None if the dataset's declaration provides the frames.
            conditions: Corrupted versions to write.

        Raises:
            DataError: The video cannot be read, or does not match its features.
        """
        extraction = self.extraction
        name = next(iter(extraction.streams))
        raw = load_array(feature_path(self.dataset.modalities[name], video.meta.id), name)
        source = SourceVideo(
            id=video.meta.id,
            read_frames=lambda: read_frames(self.dataset.name, video.meta.id, file, extraction),
            segments=video.segments_seconds,
            fps=video.meta.fps,
            steps=len(raw),
        )
        grid = Grid(extraction.stride, extraction.window, extraction.batch)
        streams = load_streams(extraction.model_dump_json(), "cpu")
        for condition, changed in corrupt_video(source, streams, grid, conditions, seed=self.seed):
            for stream, values in changed.items():
                _save(self.file(video.meta.id, stream, condition), values)

    def features(
        self, dataset: DatasetSpec, video: str, streams: Sequence[str], condition: Condition
    ) -> Mapping[str, NDArray[np.float32]]:
        """Read the streams [T, C] of a corrupted video like the dataset reads those of the original.

        Raises:
            DataError: A file is malformed.
        """
        replacements = {}
        for stream in streams:
            path = feature_path(dataset.modalities[stream], video)
            values = np.array(load_array(path, stream), np.float32)
            changed = _load(self.file(video, stream, condition))
            if len(changed.steps):
                values[changed.steps] = changed.values
            replacements[path] = values
        return in_memory(dataset, video, open_streams(dataset, video, streams, replacements))


def _save(path: Path, changed: ChangedFeatures) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with partial_file.open("wb") as file:
            np.savez(file, steps=changed.steps, values=changed.values)
        partial_file.replace(path)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=path) from None
    finally:
        partial_file.unlink(missing_ok=True)


def _load(path: Path) -> ChangedFeatures:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return ChangedFeatures(archive["steps"], archive["values"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        hint = "delete the file and run again"
        raise DataError(f"not the features of a corrupted video: {error}", where=path, hint=hint) from None
