"""Datasets opened for some of their streams: videos with features, and segments on the feature grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import AnnotatedVideo, read_labels
from tal_bench.data.feature_grid import resized, timing, to_grid
from tal_bench.data.features import (
    check_hint,
    feature_path,
    feature_paths,
    in_memory,
    open_streams,
    to_float32,
)
from tal_bench.data.selection import Selection, held_out_ids, limited, select
from tal_bench.data.video_scores import read_scores
from tal_bench.errors import DataError, InputError
from tal_bench.registry import did_you_mean
from tal_bench.types import VideoMeta

Part = Literal["train", "validation", "train+validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "train+validation", "test")

ONE_CLASS = ("action",)
"""Classes of a detector whose detections get their classes from external scores."""

MEMORY_LIMIT = 2 * 2**30
"""Largest size in bytes of the float32 features of a dataset that is kept in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Features and labels of one video.

    Attributes:
        meta: Duration, frame rate and timing of the features.
        features: Features [T, C] by stream: float32 in memory, or read from the file at every access.
        segments: Starts and ends on the feature grid, [N, 2] float32.
        labels: Class indices, [N] int64.
        segments_seconds: The same segments in seconds, [N, 2] float64.
        steps: T, the number of steps.
        one_class: Whether detectors learn a single class.
    """

    meta: VideoMeta
    features: Mapping[str, NDArray[Any]]
    segments: NDArray[np.float32]
    labels: NDArray[np.int64]
    segments_seconds: NDArray[np.float64]
    steps: int
    one_class: bool = False

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class indices that a detector learns, [N] int64: the labels, or zeros for a single class."""
        return np.zeros_like(self.labels) if self.one_class else self.labels

    def crop(self, name: str, start: int, stop: int, every: int = 1) -> NDArray[Any]:
        """Return every n-th of the steps start to stop of a stream, [ceil((stop - start) / n), C].

        Of a memory-mapped file, only these steps are read.

        Raises:
            DataError: The file is memory-mapped and has NaN at these steps, or has changed.
        """
        values = self.features[name][start:stop:every]
        if isinstance(self.features, MappedFeatures):
            return to_float32(values, self.features.path(name))
        return values


@dataclass(frozen=True, slots=True, eq=False)
class MappedFeatures(Mapping[str, NDArray[Any]]):
    """Streams of one video that are read from their files at every access.

    Files are not kept open: tens of thousands of open memory maps would exceed the limit of the system, and
    opening one takes about 0.1 ms.
    """

    spec: DatasetSpec
    video: str
    names: tuple[str, ...]
    steps: int

    def path(self, name: str) -> Path:
        """Return the file of a stream."""
        return feature_path(self.spec.modalities[name], self.video)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self.names:
            raise KeyError(name)
        array = open_streams(self.spec, self.video, (name,))[name]
        if self.spec.resize is not None:
            return resized(to_float32(array, self.path(name)), self.spec.resize)
        return array[: self.steps]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(eq=False)
class Dataset:
    """Splits of a dataset with the requested streams, as returned by `open_dataset`.

    Attributes:
        spec: Spec of the dataset.
        classes: Class names, in the order of their indices.
        modalities: Streams of its videos.
        in_memory: Whether features are kept in memory as float32, or read from their files when needed.
        selection: Videos of both splits, and videos that are left out.
        repairs: Number of annotated segments that were dropped or clipped, by kind of finding.
        scores: External class scores [K] by video; None if the dataset has none.
        doubts: What may be wrong with the annotations as a whole.
    """

    spec: DatasetSpec
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    in_memory: bool
    selection: Selection
    repairs: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, NDArray[np.float64]] | None = None
    doubts: tuple[str, ...] = ()
    _videos: dict[str, Video] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Classes that a detector on this dataset predicts."""
        return self.classes if self.scores is None else ONE_CLASS

    def notes(self) -> list[str]:
        """Return notes on doubts, videos left out and segments that were repaired, one line each."""
        lines = [f"{self.spec.annotations}: {doubt}" for doubt in self.doubts]
        reasons: dict[str, list[str]] = {}
        for video, reason in self.selection.skipped.items():
            reasons.setdefault(reason, []).append(video)
        for reason, videos in reasons.items():
            shown = ", ".join(videos[:3]) + (" …" if len(videos) > 3 else "")
            lines.append(f"{len(videos)} video{'s' * (len(videos) > 1)} left out, {reason}: {shown}")
        if self.repairs:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.repairs.items()))
            lines.append(f"annotated segments dropped or clipped: {kinds}; 'tal-bench data check' lists them")
        return lines

    def ids(self, part: Part) -> list[str]:
        """Return the ids of the part's videos, in file order, without reading features."""
        return [entry.id for entry in self._part(part)]

    def videos(self, part: Part) -> list[Video]:
        """Return the videos of a part, in file order. Features are read at the first call and kept.

        Raises:
            InputError: The part is unknown.
            DataError: A feature file is malformed.
        """
        return [self._video(entry) for entry in self._part(part)]

    def require(self, part: Part, batch_size: int = 1) -> None:
        """Check that models can be trained on, or scored on, the videos of a part.

        Args:
            part: Part of the dataset.
            batch_size: Number of videos of a training step; 1 for parts that are only scored on.

        Raises:
            DataError: The part is empty, has no segments, or has fewer videos than a step.
        """
        entries = self._part(part)
        where = f"dataset '{self.spec.name}'"
        if not any(len(entry.labels) for entry in entries):
            name = {"train": "training", "train+validation": "training"}.get(part, part)
            what = f"none of {len(entries)} {name} videos has a segment"
            raise DataError(what, where=where, hint=f"see {self.spec.annotations} and its subsets")
        check_batch_size(len(entries), batch_size, where)

    def _part(self, part: Part) -> list[AnnotatedVideo]:
        if part not in PARTS:
            raise InputError(f"unknown part '{part}'", hint=did_you_mean(str(part), list(PARTS)))
        if part == "test":
            return self.selection.test
        training = self.selection.training
        if part == "train+validation":
            return training
        held_out = held_out_ids(self.spec, training, self.selection.groups)
        return [v for v in training if (v.id in held_out) == (part == "validation")]

    def _video(self, entry: AnnotatedVideo) -> Video:
        if entry.id not in self._videos:
            self._videos[entry.id] = self._read(entry)
        return self._videos[entry.id]

    def _read(self, entry: AnnotatedVideo) -> Video:
        spec = self.spec
        opened = open_streams(spec, entry.id, self.modalities)
        steps = len(opened[self.modalities[0]])
        at = timing(spec, steps, fps=entry.fps, duration=entry.duration)
        features: Mapping[str, NDArray[Any]] = MappedFeatures(spec, entry.id, self.modalities, at.steps)
        if self.in_memory:
            features = in_memory(spec, entry.id, opened)
        grid = to_grid(entry.segments, entry.fps, at.stride, at.window, at.offset)
        return Video(
            meta=VideoMeta(entry.id, entry.duration, entry.fps, at.stride, at.window, offset=at.offset),
            features=features,
            segments=grid.astype(np.float32),
            labels=entry.labels,
            segments_seconds=entry.segments,
            steps=at.steps,
            one_class=self.scores is not None,
        )


def open_dataset(
    spec: DatasetSpec,
    modalities: Sequence[str],
    *,
    limit: int | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> Dataset:
    """Open a dataset for the streams that a run needs.

    Annotations are read and the existence of every feature file is checked; features are read by
    `Dataset.videos`.

    Args:
        spec: Dataset.
        modalities: Streams to open; files of other streams are not accessed.
        limit: Number of videos used of the training and of the test subsets; the validation part is taken
            from these.
        memory_limit: Largest size in bytes of float32 features that are kept in memory.

    Raises:
        InputError: A stream is unknown.
        DataError: A file is missing or malformed, a subset is empty, or a video is in both splits.
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
    annotations = read_labels(spec)
    scores = read_scores(spec.scores, annotations.classes) if spec.scores else None
    selection = select(spec, annotations, scores)
    if limit is not None:
        selection = limited(spec, selection, limit)
    size = _float32_bytes(spec, names, [v.id for v in (*selection.training, *selection.test)])
    return Dataset(
        spec,
        annotations.classes,
        names,
        in_memory=size <= memory_limit,
        selection=selection,
        repairs=annotations.repairs,
        scores=scores,
        doubts=annotations.doubts,
    )


def _float32_bytes(spec: DatasetSpec, names: Sequence[str], videos: Sequence[str]) -> float:
    """Estimate the size of the streams in memory from the first video and the sizes of all files.

    Raises:
        DataError: A file is missing.
    """
    sizes: dict[str, int] = {}
    missing: list[Path] = []
    for video in videos:
        paths = {path for name in names for path in feature_paths(spec.modalities[name], video)}
        try:
            sizes[video] = sum(path.stat().st_size for path in paths)
        except OSError:
            missing.extend(path for path in sorted(paths) if not path.exists())
    if missing:
        others = f", and {len(missing) - 1} others of {len(videos)} videos" if len(missing) > 1 else ""
        hint = f"{check_hint(spec)}; 'missing: skip' leaves such videos out"
        raise DataError(f"missing feature file{others}", where=missing[0], hint=hint)
    if spec.resize is not None:
        return 4.0 * spec.resize * sum(spec.modalities[name].channels for name in names) * len(videos)
    first = videos[0]
    size = sum(4.0 * array.size for array in open_streams(spec, first, names).values())
    return size * sum(sizes.values()) / max(sizes[first], 1)


def check_batch_size(videos: int, size: int, where: object = None) -> None:
    """Check that there are enough training videos for a step.

    Raises:
        DataError: There are fewer.
    """
    if videos < size:
        raise DataError(
            f"{videos} training video{'s' * (videos != 1)} are fewer than the batch size {size}",
            where=where,
            hint="use more videos, or set 'training: {batch_size: 1}' in the dataset file",
        )


@lru_cache(maxsize=4)
def _dataset(spec_json: str, modalities: tuple[str, ...], limit: int | None) -> Dataset:
    return open_dataset(DatasetSpec.model_validate_json(spec_json), modalities, limit=limit)


def open_cached(spec: DatasetSpec, modalities: tuple[str, ...], limit: int | None) -> Dataset:
    """Open a dataset, cached per process for the same streams."""
    return _dataset(spec.model_dump_json(), modalities, limit)
