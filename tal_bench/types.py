"""Data classes shared by the packages of tal_bench, without behaviour.

Notation: B batch size, C channels of a modality, T time steps of the padded input, T_l = T / 2^l time steps
of level l, K classes, D width of the detector, N room for the segments of a video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from tal_bench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class VideoMeta:
    """Temporal position of a feature sequence in its video.

    Time step x of the feature grid is at (x * stride + offset + 0.5 * window) / fps seconds.

    Attributes:
        id: Name of the video.
        duration: Duration of the video in seconds.
        fps: Frames per second of the decoded video.
        stride: Number of frames between two features.
        window: Number of frames covered by one feature.
        first_step: Grid position of the sequence's first feature, not 0 for a crop.
        offset: First frame of the window of the video's first feature.
    """

    id: str
    duration: float
    fps: float
    stride: float
    window: float
    first_step: int = 0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded feature sequences and their labels.

    Attributes:
        features: [B, C, T] float for each modality, zero where padded.
        mask: [B, T] bool, False where padded.
        segments: [B, N, 2] float, starts and ends on the feature grid; N >= 1.
        labels: [B, N] int64 class indices; -1 where a video has no further segment.
        videos: Temporal position of each sequence.
    """

    features: dict[str, Tensor]
    mask: Tensor
    segments: Tensor
    labels: Tensor
    videos: list[VideoMeta]


@dataclass(frozen=True, slots=True)
class PointLabels:
    """Labels of a batch at the points of the pyramid, as the detection loss uses them, and its segments.

    Attributes:
        classes: [B, T_l, K] for each level, 1 where the class is assigned to the point, else 0.
        offsets: [B, T_l, 2] for each level, distances to start and end of the assigned segment in units of
            the level's stride; defined where a class is assigned.
        positive: [B, T_l] bool for each level, whether any class is assigned; false where padded.
        segments: [B, N, 2], starts and ends in steps of the input.
        segment_labels: [B, N] int64 class indices; -1 where a video has no further segment.
        strides: Stride of each level, in steps of the input.
    """

    classes: Sequence[Tensor]
    offsets: Sequence[Tensor]
    positive: Sequence[Tensor]
    segments: Tensor
    segment_labels: Tensor
    strides: Sequence[int]

    @property
    def count(self) -> Tensor:
        """Scalar, number of positive points of the batch over all levels, at least 1."""
        first, *others = (level.sum() for level in self.positive)
        return sum(others, start=first).clamp(min=1)


class _Undeclared:
    """Labels that no term has asked for."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # copying looks for methods
            raise AttributeError(name)
        raise InputError("a term reads 'labels' and does not declare it", hint="add 'labels' to its reads")


class WithoutHeadLayers:
    """Outputs of detectors whose heads cannot be continued from a layer; `models.detector.Detector` can."""

    __slots__ = ()

    def continue_head(self, name: str, features: list[Tensor]) -> list[Tensor]:
        """Raise a TypeError; see `Outputs`."""
        raise TypeError(f"no network to continue '{name}' with")


@dataclass(frozen=True, slots=True)
class DetectorOutput(WithoutHeadLayers):
    """Output of a detector for a batch, in training and inference.

    Attributes:
        logits: [B, T_l, K] for each level.
        offsets: [B, T_l, 2] for each level, distances to start and end in units of the level's stride, >= 0;
            [B, T_l, K, 2] if offsets are predicted per class.
        mask: [B, T_l] bool for each level.
        inputs: [B, C, T], input after modality selection, hallucination and fusion.
        stem: [B, D, T], stem features before the first stride.
        features: Further features of each level by name (`models.heads.features`), if they were asked for.
        labels: Labels of the batch at the points, if they were asked for.
    """

    logits: list[Tensor]
    offsets: list[Tensor]
    mask: list[Tensor]
    inputs: Tensor
    stem: Tensor
    features: Mapping[str, list[Tensor]] = field(default_factory=dict)
    labels: PointLabels = field(default_factory=lambda: cast("PointLabels", _Undeclared()))


class Outputs(Protocol):
    """Outputs read by distillation: a `DetectorOutput`, or an object that computes its fields on demand."""

    @property
    def logits(self) -> list[Tensor]:
        """[B, T_l, K] for each level."""

    @property
    def offsets(self) -> list[Tensor]:
        """[B, T_l, 2] or [B, T_l, K, 2] for each level."""

    @property
    def mask(self) -> list[Tensor]:
        """[B, T_l] bool for each level."""

    @property
    def inputs(self) -> Tensor:
        """[B, C, T]."""

    @property
    def stem(self) -> Tensor:
        """[B, D, T]."""

    @property
    def features(self) -> Mapping[str, list[Tensor]]:
        """Further features of each level by name (`models.heads.features`), if they were asked for."""

    def continue_head(self, name: str, features: list[Tensor]) -> list[Tensor]:
        """Run the remaining layers of a teacher's head on other features.

        Args:
            name: `classifier/<layer>` or `regressor/<layer>`, which the term declares to read.
            features: [B, D, T_l] for each level, in the place of the teacher's own features of this name.
                Padded positions are ignored.

        Returns:
            What the head gives for each level: logits of the classifier; of the regressor bins where the
            teacher has trident heads, else offsets. Gradients flow to ``features`` only.
        """


class StudentOutputs(Outputs, Protocol):
    """Outputs of the student, with the labels of the batch."""

    @property
    def labels(self) -> PointLabels:
        """Labels of the batch at the points, if they were asked for."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Detections of one video in descending order of score.

    Attributes:
        video: Name of the video.
        segments: [N, 2] float32, starts and ends in seconds.
        scores: [N] float32.
        labels: [N] int64 class indices.
    """

    video: str
    segments: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
