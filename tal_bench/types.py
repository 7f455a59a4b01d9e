"""The shapes that the rooms of the house hand to each other; no behaviour.

Notation: B batch, C channels of a modality, T time steps of the padded input, T_l = T / 2^l, K classes,
L pyramid levels, D width of the detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class VideoMeta:
    """Where a feature sequence lies in its video.

    Time step x of the feature grid is at (x * stride + offset + 0.5 * window) / fps seconds.

    Attributes:
        id: video name.
        duration: seconds.
        fps: frames per second of the decoded video.
        stride: frames between two features.
        window: frames that one feature looks at.
        first_step: grid position of the sequence's first feature, not 0 for a crop.
        offset: frame at which the window of the video's first feature begins.
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
        features: modality name to [B, C, T] float, zero where padded.
        mask: [B, T] bool, true where a step is real.
        segments: per video [N, 2] float, starts and ends on the feature grid.
        labels: per video [N] int64 class indices.
        videos: per video its place in time.
    """

    features: dict[str, Tensor]
    mask: Tensor
    segments: list[Tensor]
    labels: list[Tensor]
    videos: list[VideoMeta]


@dataclass(frozen=True, slots=True)
class DetectorOutput:
    """What a detector says of a batch, in training and in inference alike.

    Attributes:
        logits: per level [B, T_l, K].
        offsets: per level [B, T_l, 2], distances to start and end in units of the level's stride, >= 0;
            [B, T_l, K, 2] where every class has its own.
        mask: per level [B, T_l] bool.
        inputs: [B, C, T], the input after modality selection, hallucination and fusion.
        stem: [B, D, T], features before the first stride.
    """

    logits: list[Tensor]
    offsets: list[Tensor]
    mask: list[Tensor]
    inputs: Tensor
    stem: Tensor


class Outputs(Protocol):
    """What distillation reads of a student or teacher: a `DetectorOutput`, or what computes one on demand."""

    @property
    def logits(self) -> list[Tensor]:
        """Per level [B, T_l, K]."""

    @property
    def offsets(self) -> list[Tensor]:
        """Per level [B, T_l, 2], or [B, T_l, K, 2]."""

    @property
    def mask(self) -> list[Tensor]:
        """Per level [B, T_l] bool."""

    @property
    def inputs(self) -> Tensor:
        """[B, C, T]."""

    @property
    def stem(self) -> Tensor:
        """[B, D, T]."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Detections of one video, best first.

    Attributes:
        video: its id.
        segments: [N, 2] float32, seconds.
        scores: [N] float32.
        labels: [N] int64 class indices.
    """

    video: str
    segments: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
