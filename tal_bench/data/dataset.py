"""A dataset opened for some of its streams: videos with features and segments on the feature grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo, read_annotations
from tal_bench.data.features import check_hint, feature_path, open_streams, read_features, to_float32
from tal_bench.data.splits import validation_ids
from tal_bench.errors import DataError, InputError
from tal_bench.registry import did_you_mean
from tal_bench.types import VideoMeta

Part = Literal["train", "validation", "train+validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "train+validation", "test")

MEMORY_LIMIT = 2 * 2**30
"""Bytes of float32 features up to which a dataset is held in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Features and labels of one video.

    Attributes:
        meta: its place in time.
        features: stream name to [T, C]: float32 in memory, or read from its file at every access.
        segments: [N, 2] float32, starts and ends on the feature grid.
        labels: [N] int64 class indices.
        segments_seconds: [N, 2] float64, the same segments in seconds.
        steps: T.
    """

    meta: VideoMeta
    features: Mapping[str, NDArray[Any]]
    segments: NDArray[np.float32]
    labels: NDArray[np.int64]
    segments_seconds: NDArray[np.float64]
    steps: int

    def crop(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Steps start to stop of a stream, [stop - start, C]; of a mapped file only those are read.

        Raises:
            DataError: the file was not in memory and holds NaN there, or has changed.
        """
        values = self.features[name][start:stop]
        if isinstance(self.features, MappedFeatures):
            return to_float32(values, self.features.path(name))
        return values


@dataclass(frozen=True, slots=True, eq=False)
class MappedFeatures(Mapping[str, NDArray[Any]]):
    """Streams of one video that stay in their files; every access opens the file anew.

    Holding tens of thousands of memory maps open would run into the system's limit; opening one takes about
    a tenth of a millisecond.
    """

    spec: DatasetSpec
    video: str
    names: tuple[str, ...]
    steps: int

    def path(self, name: str) -> Path:
        """File of a stream."""
        return feature_path(self.spec.modalities[name], self.video)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.names:
            raise KeyError(name)
        return open_streams(self.spec, self.video, (name,))[name][: self.steps]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(eq=False)
class Dataset:
    """Splits of a dataset with the requested streams; made by `open_dataset`.

    Attributes:
        spec: what was opened.
        classes: names, in the order of label indices.
        modalities: streams that its videos hold.
        in_memory: whether features are held as float32 or read from their files when needed.
    """

    spec: DatasetSpec
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    in_memory: bool
    _entries: dict[str, list[AnnotatedVideo]]
    _videos: dict[str, Video] = field(default_factory=dict)

    def ids(self, part: Part) -> list[str]:
        """Names of the part's videos, in file order; reads no features."""
        return [entry.id for entry in self._part(part)]

    def videos(self, part: Part) -> list[Video]:
        """Videos of a part, in file order. Features are read at the first call and kept.

        Raises:
            InputError: unknown part.
            DataError: a feature file is malformed.
        """
        return [self._video(entry) for entry in self._part(part)]

    def _part(self, part: Part) -> list[AnnotatedVideo]:
        if part not in PARTS:
            raise InputError(f"unknown part '{part}'", hint=did_you_mean(str(part), list(PARTS)))
        if part == "test":
            return self._entries["test"]
        training = self._entries["training"]
        if part == "train+validation":
            return training
        held_out = validation_ids([v.id for v in training], self.spec.validation_fraction)
        return [v for v in training if (v.id in held_out) == (part == "validation")]

    def _video(self, entry: AnnotatedVideo) -> Video:
        if entry.id not in self._videos:
            self._videos[entry.id] = self._read(entry)
        return self._videos[entry.id]

    def _read(self, entry: AnnotatedVideo) -> Video:
        spec = self.spec
        features: Mapping[str, NDArray[Any]]
        if self.in_memory:
            features = read_features(spec, entry.id, self.modalities)
            steps = len(features[self.modalities[0]])
        else:
            steps = len(open_streams(spec, entry.id, self.modalities)[self.modalities[0]])
            features = MappedFeatures(spec, entry.id, self.modalities, steps)
        return Video(
            meta=VideoMeta(entry.id, entry.duration, entry.fps, spec.stride, spec.window),
            features=features,
            segments=to_grid(entry.segments, entry.fps, spec.stride, spec.window).astype(np.float32),
            labels=entry.labels,
            segments_seconds=entry.segments,
            steps=steps,
        )


def to_grid(seconds: NDArray[Any], fps: float, stride: float, window: float) -> NDArray[np.float64]:
    """Seconds → grid position: t · fps / stride − 0.5 · window / stride."""
    return np.asarray((np.asarray(seconds, dtype=np.float64) * fps - 0.5 * window) / stride)


def to_seconds(grid: NDArray[Any], fps: float, stride: float, window: float) -> NDArray[np.float64]:
    """Grid position → seconds: (x · stride + 0.5 · window) / fps."""
    return np.asarray((np.asarray(grid, dtype=np.float64) * stride + 0.5 * window) / fps)


def open_dataset(
    spec: DatasetSpec,
    modalities: Sequence[str],
    *,
    limit: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset:
    """Open a dataset for the streams that a run needs.

    Annotations are read and every feature file is looked for now; features are read by `Dataset.videos`.

    Args:
        spec: the dataset.
        modalities: streams to hold; files of others are not touched.
        limit: use only the first so many videos of the training and of the test subsets; the validation part
            is cut from those.
        memory_limit: bytes of float32 features up to which they are held in memory.

    Raises:
        InputError: unknown stream.
        DataError: a file is missing or malformed, a subset is empty, or a video is in both splits.
    """
    names = tuple(modalities)
    for name in names:
        if name not in spec.modalities:
            raise InputError(
                f"dataset '{spec.name}' has no modality '{name}'",
                hint=did_you_mean(name, list(spec.modalities)),
            )
    if not names:
        raise InputError("no modality requested", where=f"dataset '{spec.name}'")
    annotations = read_annotations(spec.annotations, fps=spec.fps)
    training, test = annotations.of(spec.train), annotations.of(spec.test)
    both = {video.id for video in training} & {video.id for video in test}
    if both:
        raise DataError(
            f"{len(both)} videos are trained and tested on, '{min(both)}' first",
            where=f"dataset '{spec.name}'",
            hint="'train' and 'test' must name different subsets",
        )
    entries = {"training": training[:limit], "test": test[:limit]}
    held = _float32_bytes(spec, names, [v.id for part in entries.values() for v in part])
    return Dataset(spec, annotations.classes, names, held <= memory_limit, entries)


def _float32_bytes(spec: DatasetSpec, names: Sequence[str], videos: Sequence[str]) -> float:
    """Size of the streams in memory, judged by the first video and all file sizes; all files must exist."""
    sizes: dict[str, int] = {}
    missing: list[Path] = []
    for video in videos:
        paths = {feature_path(spec.modalities[name], video) for name in names}
        try:
            sizes[video] = sum(path.stat().st_size for path in paths)
        except OSError:
            missing.extend(path for path in sorted(paths) if not path.exists())
    if missing:
        others = f", and {len(missing) - 1} others of {len(videos)} videos" if len(missing) > 1 else ""
        raise DataError(f"missing feature file{others}", where=missing[0], hint=check_hint(spec))
    first = videos[0]
    in_memory = sum(4.0 * array.size for array in open_streams(spec, first, names).values())
    return in_memory * sum(sizes.values()) / max(sizes[first], 1)
