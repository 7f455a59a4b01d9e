"""What features were extracted with: settings that lie beside the features and travel with every model."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from tal_bench.config.base import Spec, content_hash
from tal_bench.config.dataset import DatasetSpec
from tal_bench.errors import DataError

FILE = "extraction.json"
"""Lies beside the folders of the streams."""

Side = Annotated[int, Field(ge=16, le=4096)]
FlowAlgorithm = Literal["dis", "farneback", "tvl1"]
SnippetSampler = Literal["frame", "flow-stack", "sprites-rgb", "sprites-flow"]
TIMM_SIGHTS: tuple[SnippetSampler, ...] = ("frame", "flow-stack")


class ProjectionSpec(Spec):
    """z = (x - mean) · matrix, in float64.

    Attributes:
        mean: base64 of the bytes, little-endian [D].
        matrix: base64 of the bytes, little-endian [D, C], row by row.
    """

    mean: str
    matrix: str

    @staticmethod
    def of(mean: NDArray[np.float64], matrix: NDArray[np.float64]) -> ProjectionSpec:
        """Encode arrays."""
        texts = (base64.b64encode(np.ascontiguousarray(x, "<f8").tobytes()).decode() for x in (mean, matrix))
        return ProjectionSpec(mean=next(texts), matrix=next(texts))

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean [D] and matrix [D, C].

        Raises:
            DataError: not such arrays.
        """
        try:
            mean, flat = (np.frombuffer(base64.b64decode(x), "<f8").copy() for x in (self.mean, self.matrix))
            return mean, flat.reshape(len(mean), -1)
        except ValueError as error:
            raise DataError(f"not a projection: {error}", where=FILE) from None


class StreamSpec(Spec):
    """How one stream's features are made.

    Attributes:
        sees: what the network is shown at a step: `frame`, the centre frame in colour; `flow-stack`, the
            window's flow fields; `sprites-rgb` and `sprites-flow`, what the shipped networks look at.
        flow: algorithm, for streams that see flow.
        backbone: timm name; that of a shipped network is its `sees`.
        weights: where they came from: a file, `imagenet-pip`, a hub id, `random` or `shipped`.
        weights_hash: of their content; none while they have not been read.
        channels: C of the features.
        projection: applied to the network's vectors.
    """

    sees: SnippetSampler
    flow: FlowAlgorithm | None = None
    backbone: str
    weights: str
    weights_hash: str = ""
    channels: int = 0
    projection: ProjectionSpec | None = None


class Extraction(Spec):
    """How features are made of a video.

    Step i is the frames i · stride to i · stride + window - 1, its centre at
    (i · stride + 0.5 · window) / fps seconds.

    Attributes:
        fps: that videos are resampled to; none keeps each video's own average.
        size: (height, width) of the frames: scaled to cover it, then cut from the middle.
        stride: frames between two features.
        window: frames under one feature.
        batch: steps that a network takes at once; another number changes the features' last digits.
        streams: name to what makes it, in the order of the features.
    """

    fps: Annotated[float, Field(gt=0.0, le=1000.0)] | None = 25.0
    size: tuple[Side, Side]
    stride: Annotated[int, Field(ge=1)] = 4
    window: Annotated[int, Field(ge=1)] = 6
    batch: Annotated[int, Field(ge=1)] = 16
    streams: Annotated[dict[str, StreamSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _flow_needs_two(self) -> Self:
        if self.window < 2 and any(stream.sees == "flow-stack" for stream in self.streams.values()):
            raise ValueError("window: flow is between 2 frames or more")
        return self

    @property
    def hash(self) -> str:
        """Identity of the settings and of all weights."""
        return content_hash(self.model_dump(mode="json", exclude={"batch"}))

    def with_flow(self, algorithm: FlowAlgorithm) -> Extraction:
        """The same with another algorithm where flow is seen."""
        streams = {
            name: spec.model_copy(update={"flow": algorithm}) if spec.flow else spec
            for name, spec in self.streams.items()
        }
        return self.model_copy(update={"streams": streams})

    def only_flow(self) -> Extraction:
        """The same for the streams that see flow."""
        streams = {name: spec for name, spec in self.streams.items() if spec.flow}
        return self.model_copy(update={"streams": streams})


def read_extraction(file: Path) -> Extraction | None:
    """Read the settings, or none when there is no such file.

    Raises:
        DataError: the file holds something else.
    """
    try:
        return Extraction.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))} {first['msg']}" if first else str(error)
        raise DataError(f"not the settings of an extraction: {what}", where=file) from None


def find_extraction(dataset: DatasetSpec, names: tuple[str, ...]) -> Extraction | None:
    """What made some of a dataset's streams, where that was this program; none when it was not.

    Streams may lie in different folders, if their frames and steps agree.
    """
    found: dict[str, StreamSpec] = {}
    shared: Extraction | None = None
    for name in names:
        modality = dataset.modalities[name]
        folder = modality.folder
        if modality.also or modality.prefix or modality.suffix != ".npy":
            return None
        one = read_extraction(folder.parent / FILE)
        if one is None or folder.name not in one.streams:
            return None
        if shared is not None and one.model_copy(update={"streams": shared.streams}) != shared:
            return None
        shared = shared or one
        found[name] = one.streams[folder.name]
    return shared.model_copy(update={"streams": found}) if shared else None
