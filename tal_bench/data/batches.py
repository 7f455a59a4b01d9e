"""Padded batches of videos: random crops for training, complete videos for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tal_bench.config import TrainSpec
from tal_bench.data.dataset import Video, check_batch_size
from tal_bench.errors import InputError
from tal_bench.types import Batch

ATTEMPTS = 200
"""Largest number of crops drawn to find one with a segment (as in ActionFormer)."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """Part of a video with its segments.

    Attributes:
        video: Video that the crop is taken from.
        start: First step of the crop.
        stop: Step after the last one of the crop.
        segments: Segments on the grid of the crop, whose first step is 0, [N', 2] float32.
        labels: Class indices, [N'] int64.
    """

    video: Video
    start: int
    stop: int
    segments: NDArray[np.float32]
    labels: NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Length of the crop in steps."""
        return self.stop - self.start


def clip_segments(
    segments: NDArray[np.float32], start: int, stop: int, *, slack: float, truncation: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clip segments to the steps start to stop, and drop segments of which too little is left.

    A feature covers frames up to ``slack`` steps to either side of its centre, so the crop extends by
    ``slack`` beyond its steps (as in ActionFormer).

    Args:
        segments: Segments on the grid of the video, [N, 2].
        start: First step of the crop.
        stop: Step after the last one of the crop.
        slack: Half a window, in steps.
        truncation: Smallest share of a segment's length that must be left.

    Returns:
        Clipped segments on the grid of the crop, [N', 2], and a mask of the kept segments, [N].
    """
    clipped = np.clip(segments, start - slack, stop + slack)
    length = clipped[:, 1] - clipped[:, 0]
    kept = (length > 0) & (length >= truncation * (segments[:, 1] - segments[:, 0]))
    return (clipped[kept] - start).astype(np.float32), kept


def random_crop(video: Video, *, spec: TrainSpec, max_length: int, generator: np.random.Generator) -> Crop:
    """Draw a random crop: a share `spec.crop` of the video, or `max_length` steps of a longer video.

    Positions are drawn until at least one segment is kept, at most `ATTEMPTS` times; the last crop is then
    returned without segments.
    """
    length = max_length
    if video.steps <= max_length:
        low, high = (min(max(round(share * video.steps), 1), video.steps) for share in spec.crop)
        length = int(generator.integers(low, max(low, high), endpoint=True))
    slack = 0.5 * video.meta.window / video.meta.stride
    start = 0
    segments, kept = video.segments[:0], np.zeros(len(video.segments), dtype=np.bool_)
    for _ in range(ATTEMPTS if len(video.segments) else 1):
        start = int(generator.integers(0, video.steps - length, endpoint=True))
        segments, kept = clip_segments(
            video.segments, start, start + length, slack=slack, truncation=spec.truncation
        )
        if len(segments) or length == video.steps:
            break
    return Crop(video, start, start + length, segments, video.targets[kept])


def pack_segments(
    segments: Sequence[Tensor], labels: Sequence[Tensor], room: int = 1
) -> tuple[Tensor, Tensor]:
    """Pack the segments [n, 2] and class indices [n] of videos into the tensors of a `Batch`.

    Args:
        segments: Segments of each video.
        labels: Their class indices.
        room: Smallest N; it is larger where a video has more segments.

    Returns:
        Segments [B, N, 2] and class indices [B, N]; 0 and -1 where a video has no further segment.
    """
    size = max(room, 1, *map(len, segments))
    packed = torch.zeros(len(segments), size, 2, dtype=segments[0].dtype)
    classes = torch.full((len(segments), size), -1, dtype=torch.long)
    for i, (own, own_labels) in enumerate(zip(segments, labels, strict=True)):
        packed[i, : len(own)], classes[i, : len(own)] = own, own_labels
    return packed, classes


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Crops of a batch, before their features are read.

    Attributes:
        crops: A crop per sequence of the batch.
        length: T, to which the crops are padded.
        room: Smallest N, to which their segments are padded.

    Raises:
        ValueError: A crop is longer than ``length``.
    """

    crops: Sequence[Crop]
    length: int
    room: int = 1

    def __post_init__(self) -> None:
        longest = max(crop.steps for crop in self.crops)
        if longest > self.length:
            raise ValueError(f"crop of {longest} steps is longer than {self.length}")


def collate(crops: Crops, modalities: Sequence[str], *, pinned: bool = False) -> Batch:
    """Read the features of crops, and pad them to the length of the batch.

    Every stream is a tensor [B, C, T], a transposed view of a contiguous tensor [B, T, C]: a detector that
    works channels-last gets contiguous memory by ``.transpose(1, 2)``, without a copy.

    Args:
        crops: Crops of the batch.
        modalities: Streams to read.
        pinned: Whether features are in pinned memory, from which a GPU copies them without waiting.
    """
    features = {name: _padded(crops, name, pinned).transpose(1, 2) for name in modalities}
    return replace(labels_of(crops), features=features)


def _padded(crops: Crops, name: str, pinned: bool) -> Tensor:
    """Return a stream of the crops, [B, T, C]."""
    parts = [crop.video.crop(name, crop.start, crop.stop) for crop in crops.crops]
    stacked = torch.empty(len(parts), crops.length, parts[0].shape[1], pin_memory=pinned)
    target = stacked.numpy()
    for row, part in zip(target, parts, strict=True):
        row[: len(part)] = part
        row[len(part) :] = 0.0
    return stacked


def labels_of(crops: Crops) -> Batch:
    """Return the batch of crops without features: mask, segments, labels and temporal positions."""
    steps = torch.tensor([crop.steps for crop in crops.crops])
    segments, labels = pack_segments(
        [torch.from_numpy(crop.segments) for crop in crops.crops],
        [torch.from_numpy(crop.labels) for crop in crops.crops],
        crops.room,
    )
    return Batch(
        features={},
        mask=torch.arange(crops.length) < steps[:, None],
        segments=segments,
        labels=labels,
        videos=[
            replace(crop.video.meta, first_step=crop.start) if crop.start else crop.video.meta
            for crop in crops.crops
        ],
    )


def training_crops(
    videos: Sequence[Video],
    *,
    spec: TrainSpec,
    max_length: int,
    generator: np.random.Generator,
    pad_to: int | None = None,
    length_of: Callable[[int], int] | None = None,
) -> Iterator[Crops]:
    """Return the batches of one epoch of shuffled random crops; the last incomplete batch is dropped.

    All batches have room for the segments of the video with most, so that shapes depend on B and T only.

    Args:
        videos: Training videos.
        spec: Training settings, of which batch size, crop and truncation are used.
        max_length: Length of the longest crop, in steps.
        generator: Only source of randomness; the same state gives the same epoch.
        pad_to: T of every batch; by default ``max_length``.
        length_of: Function from the steps of a batch's longest crop to its T, instead of ``pad_to``.

    Raises:
        InputError: There are fewer videos than the batch size, or ``pad_to`` is below ``max_length``.
    """
    size = spec.batch_size
    check_batch_size(len(videos), size)
    length = max_length if pad_to is None else pad_to
    if length < max_length:
        raise InputError(f"pad_to {length} is below max_length {max_length}")
    return _epoch(
        videos,
        spec,
        max_length=max_length,
        length_of=length_of or (lambda steps: length),
        generator=generator,
    )


def _epoch(
    videos: Sequence[Video],
    spec: TrainSpec,
    *,
    max_length: int,
    length_of: Callable[[int], int],
    generator: np.random.Generator,
) -> Iterator[Crops]:
    order = generator.permutation(len(videos))
    room = max(len(video.segments) for video in videos)
    for first in range(0, len(videos) - spec.batch_size + 1, spec.batch_size):
        crops = [
            random_crop(videos[i], spec=spec, max_length=max_length, generator=generator)
            for i in order[first : first + spec.batch_size]
        ]
        yield Crops(crops, length_of(max(crop.steps for crop in crops)), room)


def padded_length(steps: int, *, max_length: int, divisor: int) -> int:
    """Return the padded length of a video in evaluation, see `evaluation_crops`."""
    return max_length if steps <= max_length else -(-steps // divisor) * divisor


def evaluation_crops(
    videos: Sequence[Video], *, batch_size: int, max_length: int, divisor: int
) -> Iterator[Crops]:
    """Yield batches of complete videos with all their segments.

    Videos are padded to ``max_length``, longer ones to the next multiple of ``divisor``. Only videos of the
    same padded length share a batch, so that a video's detections do not depend on the other videos; the
    order of the batches therefore differs from that of ``videos``.
    """
    groups: dict[int, list[Crop]] = {}
    for video in videos:
        crop = Crop(video, 0, video.steps, video.segments, video.targets)
        length = padded_length(video.steps, max_length=max_length, divisor=divisor)
        groups.setdefault(length, []).append(crop)
    for length, crops in groups.items():
        for first in range(0, len(crops), batch_size):
            yield Crops(crops[first : first + batch_size], length)
