"""Settings of a feature extraction, stored with the features and with every model."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from tal_bench.config.base import Spec, content_hash, without_later_fields
from tal_bench.config.dataset import DatasetSpec
from tal_bench.config.run import Precision
from tal_bench.errors import DataError

LATER_FIELDS = (("precision", "fp32"),)
"""Fields that were added after the first release, and their defaults, which hashes leave out."""
FILE = "extraction.json"
"""Name of the settings file, in the parent folder of the streams' folders."""

Side = Annotated[int, Field(ge=16, le=4096)]
FlowAlgorithm = Literal["dis", "farneback", "tvl1"]
SnippetSampler = Literal["frame", "flow-stack", "sprites-rgb", "sprites-flow"]
TIMM_SAMPLERS: tuple[SnippetSampler, ...] = ("frame", "flow-stack")


class ProjectionSpec(Spec):
    """Linear projection z = (x - mean) · matrix, in float64.

    Attributes:
        mean: Base64 of the little-endian bytes of the mean [D].
        matrix: Base64 of the little-endian bytes of the matrix [D, C], row by row.
    """

    mean: str
    matrix: str

    @staticmethod
    def of(mean: NDArray[np.float64], matrix: NDArray[np.float64]) -> ProjectionSpec:
        """Return the spec of a projection with the given mean and matrix."""
        texts = (base64.b64encode(np.ascontiguousarray(x, "<f8").tobytes()).decode() for x in (mean, matrix))
        return ProjectionSpec(mean=next(texts), matrix=next(texts))

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean [D] and matrix [D, C].

        Raises:
            DataError: The stored bytes are not such arrays.
        """
        try:
            mean, flat = (np.frombuffer(base64.b64decode(x), "<f8").copy() for x in (self.mean, self.matrix))
            return mean, flat.reshape(len(mean), -1)
        except ValueError as error:
            raise DataError(f"invalid projection: {error}", where=FILE) from None


class StreamSpec(Spec):
    """Settings of the extraction of one stream.

    Attributes:
        sees: Input of the network at a step: `frame` = the centre frame in colour, `flow-stack` = the flow
            fields of the window, `sprites-rgb` and `sprites-flow` = the inputs of the shipped networks.
        flow: Optical flow algorithm, for streams that are computed from flow.
        backbone: timm name of the network; for a shipped network, the value of `sees`.
        weights: Source of the weights: a file, `imagenet-pip`, a hub id, `random` or `shipped`.
        weights_hash: Content hash of the weights; empty until they have been read.
        channels: C, the channels of the features.
        projection: Projection applied to the network's vectors; null = none.
    """

    sees: SnippetSampler
    flow: FlowAlgorithm | None = None
    backbone: str
    weights: str
    weights_hash: str = ""
    channels: int = 0
    projection: ProjectionSpec | None = None


class Extraction(Spec):
    """Settings of the extraction of features from videos.

    Step i covers the frames i · stride to i · stride + window - 1; its centre is at
    (i · stride + 0.5 · window) / fps seconds.

    Attributes:
        fps: Frame rate to which videos are resampled; null = the average frame rate of each video.
        size: Height and width of the frames, which are scaled to cover it and centre-cropped.
        stride: Frames between two features.
        window: Frames under one feature.
        batch: Number of steps per forward pass; it affects the last digits of the features.
        precision: Precision of the networks' products; the CPU computes `tf32` as `fp32`.
        streams: Settings of each stream by name, in the order of the features.
    """

    fps: Annotated[float, Field(gt=0.0, le=1000.0)] | None = 25.0
    size: tuple[Side, Side]
    stride: Annotated[int, Field(ge=1)] = 4
    window: Annotated[int, Field(ge=1)] = 6
    batch: Annotated[int, Field(ge=1)] = 16
    precision: Precision = "fp32"
    streams: Annotated[dict[str, StreamSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _validate_window(self) -> Self:
        if self.window < 2 and any(stream.sees == "flow-stack" for stream in self.streams.values()):
            raise ValueError("window: streams computed from flow need at least 2 frames")
        return self

    @property
    def hash(self) -> str:
        """Content hash of the settings and of all weights."""
        value = self.model_dump(mode="json", exclude={"batch"})
        return content_hash(without_later_fields(value, LATER_FIELDS))

    def with_flow(self, algorithm: FlowAlgorithm) -> Extraction:
        """Return a copy with another flow algorithm in the streams that are computed from flow."""
        streams = {
            name: spec.model_copy(update={"flow": algorithm}) if spec.flow else spec
            for name, spec in self.streams.items()
        }
        return self.model_copy(update={"streams": streams})

    def only_flow(self) -> Extraction:
        """Return a copy with only the streams that are computed from flow."""
        streams = {name: spec for name, spec in self.streams.items() if spec.flow}
        return self.model_copy(update={"streams": streams})


def read_extraction(file: Path) -> Extraction | None:
    """Read the settings of an extraction; None when the file does not exist.

    Raises:
        DataError: The file has other content.
    """
    try:
        return Extraction.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))} {first['msg']}" if first else str(error)
        raise DataError(f"not valid extraction settings: {reason}", where=file) from None


def find_extraction(dataset: DatasetSpec, names: tuple[str, ...]) -> Extraction | None:
    """Return the settings with which some streams of a dataset were extracted.

    The streams may have different settings files if these agree in everything but their streams.

    Returns:
        The common settings with the named streams, or None unless tal_bench extracted all of them.
    """
    streams: dict[str, StreamSpec] = {}
    shared: Extraction | None = None
    for name in names:
        modality = dataset.modalities[name]
        folder = modality.folder
        if modality.also or modality.prefix or modality.suffix != ".npy":
            return None
        extraction = read_extraction(folder.parent / FILE)
        if extraction is None or folder.name not in extraction.streams:
            return None
        if shared is not None and extraction.model_copy(update={"streams": shared.streams}) != shared:
            return None
        shared = shared or extraction
        streams[name] = extraction.streams[folder.name]
    return shared.model_copy(update={"streams": streams}) if shared else None
