"""A dataset: annotations, feature streams, splits and protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tal_bench.config.base import Count, Fraction, Positive, Size, Spec


class ModalitySpec(Spec):
    """One stream of features and where its files lie.

    Attributes:
        role: `primary` is what the student sees, `privileged` what only teachers see.
        folder: directory of the files, relative to the dataset file.
        channels: width of the feature vectors.
        prefix: text before the video id in the file name.
        suffix: text after it, the file type included.
        columns: half-open range of columns when several streams share a file.
        nonnegative: whether the features are >= 0 (after a ReLU), as I3D's are; a hallucination of them
            then ends in ReLU.
    """

    role: Literal["primary", "privileged"]
    folder: Path
    channels: Count
    prefix: str = ""
    suffix: str = ".npy"
    columns: tuple[int, int] | None = None
    nonnegative: bool = False

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.columns and not (self.columns[0] >= 0 and self.columns[1] - self.columns[0] == self.channels):
            raise ValueError(f"columns {list(self.columns)} are not {self.channels} channels wide")
        return self


class DatasetSpec(Spec):
    """A dataset: annotations, feature streams, splits and protocol.

    Attributes:
        name: as tables show it.
        annotations: ActivityNet-style JSON file.
        modalities: name to stream, in the order in which teachers concatenate them.
        stride: frames between features.
        window: frames under one feature.
        fps: overrides the fps of the annotation file.
        train: subsets trained on, matched without regard to case.
        test: subsets tested on.
        validation_fraction: share of the training videos that tuning holds out.
        max_length: T to which training pads or crops.
        size: which size of the registered models fits.
        tiou: thresholds of the protocol.
        fingerprint: content hash of annotations and features, filled in when they are read.
    """

    name: str
    annotations: Path
    modalities: dict[str, ModalitySpec]
    stride: Positive
    window: Annotated[float, Field(ge=0.0)]
    fps: Positive | None = None
    train: tuple[str, ...] = ("training",)
    test: tuple[str, ...] = ("test",)
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.33
    max_length: Count = 2304
    size: Size = "full"
    tiou: tuple[Fraction, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    fingerprint: str = ""

    @model_validator(mode="after")
    def _has_primary(self) -> Self:
        if not any(m.role == "primary" for m in self.modalities.values()):
            raise ValueError("modalities: at least one must have role 'primary'")
        return self

    def channels(self, role: Literal["primary", "privileged"]) -> dict[str, int]:
        """Names and widths of the streams with that role."""
        return {name: m.channels for name, m in self.modalities.items() if m.role == role}
