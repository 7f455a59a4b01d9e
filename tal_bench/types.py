"""Data classes shared by the packages of tal_bench, without behaviour.

Notation: B batch size, C channels of a modality, T time steps of the padded input, T_l = T / 2^l time steps
of level l, K classes, D width of the detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
        segments: [N, 2] float for each video, starts and ends on the feature grid.
        labels: [N] int64 class indices for each video.
        videos: Temporal position of each sequence.
    """

    features: dict[str, Tensor]
    mask: Tensor
    segments: list[Tensor]
    labels: list[Tensor]
    videos: list[VideoMeta]


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """Output of a detector for a batch, in training and inference.

    Attributes:
        logits: [B, T_l, K] for each level.
        offsets: [B, T_l, 2] for each level, distances to start and end in units of the level's stride, >= 0;
            [B, T_l, K, 2] if offsets are predicted per class.
        mask: [B, T_l] bool for each level.
        inputs: [B, C, T], input after modality selection, hallucination and fusion.
        stem: [B, D, T], stem features before the first stride.
    """

    logits: list[Tensor]
    offsets: list[Tensor]
    mask: list[Tensor]
    inputs: Tensor
    stem: Tensor


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
