"""Features of corrupted videos in the user's cache: by content, video by video, whole or not there."""

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
from tal_bench.corruptions.extract import Changed, Grid, Shot, corrupt_video
from tal_bench.corruptions.registry import Condition
from tal_bench.corruptions.source import frames_of
from tal_bench.data.dataset import Video
from tal_bench.data.features import feature_path, in_memory, load_array, open_streams
from tal_bench.errors import DataError
from tal_bench.extraction.video_files import networks

FOLDER = "corrupted"


@dataclass(frozen=True, slots=True)
class Store:
    """Where the features of a dataset's corrupted videos lie.

    Attributes:
        root: the user's cache.
        dataset: with its fingerprint.
        extraction: what made its features.
        seed: of the random numbers.
    """

    root: Path
    dataset: DatasetSpec
    extraction: Extraction
    seed: int = 0

    @property
    def folder(self) -> Path:
        """Of the dataset."""
        return self.root / FOLDER / f"{self.dataset.name}-{self.dataset.fingerprint}"

    def file(self, video: str, stream: str, condition: Condition) -> Path:
        """What a corruption changes in one stream of one video."""
        one = self.extraction.model_copy(update={"streams": {stream: self.extraction.streams[stream]}})
        name = f"{stream}-{one.hash[:8]}"
        return self.folder / name / condition.folder(self.seed) / f"{video}.npz"

    def missing(self, video: str, wanted: Sequence[Condition]) -> list[Condition]:
        """Versions of a video that are not all there."""
        streams = self.extraction.streams
        return [c for c in wanted if not all(self.file(video, s, c).is_file() for s in streams)]

    def make(self, video: Video, file: Path | None, wanted: Sequence[Condition]) -> None:
        """Corrupt a video and write what changes.

        Args:
            video: with its segments.
            file: that is decoded; none = the dataset's declaration gives frames.
            wanted: versions.

        Raises:
            DataError: the video cannot be read, or is not that of the features.
        """
        made = self.extraction
        name = next(iter(made.streams))
        raw = load_array(feature_path(self.dataset.modalities[name], video.meta.id), name)
        shot = Shot(
            id=video.meta.id,
            footage=lambda: frames_of(self.dataset.name, video.meta.id, file, made),
            segments=video.segments_seconds,
            fps=video.meta.fps,
            steps=len(raw),
        )
        grid = Grid(made.stride, made.window, made.batch)
        streams = networks(made.model_dump_json(), "cpu")
        for condition, changed in corrupt_video(shot, streams, grid, wanted, seed=self.seed):
            for stream, values in changed.items():
                _save(self.file(video.meta.id, stream, condition), values)

    def features(
        self, dataset: DatasetSpec, video: str, streams: Sequence[str], condition: Condition
    ) -> Mapping[str, NDArray[np.float32]]:
        """Streams [T, C] of a corrupted video, as the dataset reads those of the video itself.

        Raises:
            DataError: a file is malformed.
        """
        instead = {}
        for stream in streams:
            path = feature_path(dataset.modalities[stream], video)
            values = np.array(load_array(path, stream), np.float32)
            changed = _load(self.file(video, stream, condition))
            if len(changed.steps):
                values[changed.steps] = changed.values
            instead[path] = values
        return in_memory(dataset, video, open_streams(dataset, video, streams, instead))


def _save(path: Path, changed: Changed) -> None:
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


def _load(path: Path) -> Changed:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Changed(archive["steps"], archive["values"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        hint = "delete it and run again"
        raise DataError(f"not the features of a corrupted video: {error}", where=path, hint=hint) from None
