"""A dataset: annotations, feature streams, splits, AP method, and what its models are set to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from tal_bench.config.base import Count, FolderName, Fraction, Positive, Size, Spec, brief
from tal_bench.config.detector import DetectorSpec
from tal_bench.config.training import DecodeSpec, TrainSpec
from tal_bench.registry import did_you_mean

FILE_TYPES = (".npy", ".npz", ".pt", ".pth")
"""Endings of feature files that can be read."""

OWN = {"structure", "inputs", "primary", "privileged", "classes", "max_length", "temporal_attention"}
"""Fields of a detector that the dataset's other keys or the model's name decide."""

ANY_DETECTOR = {"structure": "conv", "inputs": "primary", "primary": {"any": 1}, "classes": 1}
"""What a detector must have, to see whether the settings beside it are of the right types."""


class ModalitySpec(Spec):
    """One stream of features and where its files lie.

    Attributes:
        role: `primary` is what the student sees, `privileged` what only teachers see.
        folder: directory of the files, relative to the dataset file.
        channels: width of the feature vectors, of all its files together.
        also: further directories with a file of the same name per video; their features are put behind those
            of `folder`, channel by channel, in this order.
        prefix: text before the video id in the file name.
        suffix: text after it, the file type included: `.npy`, `.npz` or `.pt`.
        columns: half-open range of columns when several streams share a file.
        nonnegative: whether the features are >= 0 (after a ReLU), as I3D's are; a hallucination of them
            then ends in ReLU.
    """

    role: Literal["primary", "privileged"]
    folder: Path
    channels: Count
    also: tuple[Path, ...] = ()
    prefix: str = ""
    suffix: str = ".npy"
    columns: tuple[int, int] | None = None
    nonnegative: bool = False

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.columns and not (self.columns[0] >= 0 and self.columns[1] - self.columns[0] == self.channels):
            raise ValueError(f"columns {list(self.columns)} are not {self.channels} channels wide")
        if self.columns and self.also:
            raise ValueError("columns: they say nothing of the files in 'also', use one or the other")
        if not self.suffix.lower().endswith(FILE_TYPES):
            raise ValueError(f"suffix: '{self.suffix}' is no file type, end it in {', '.join(FILE_TYPES)}")
        return self


class Settings(Spec):
    """What a dataset changes in the published defaults.

    Attributes:
        detector: fields of `DetectorSpec`; for networks in the dataset's own size.
        training: fields of `TrainSpec`.
        decoding: fields of `DecodeSpec`.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    detector: dict[str, Any] = {}
    training: dict[str, Any] = {}
    decoding: dict[str, Any] = {}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.detector:
            if name not in DetectorSpec.model_fields or name in OWN:
                raise ValueError(f"detector: '{name}' is no setting of a detector, see DetectorSpec")
        _check_fields("detector", DetectorSpec, {**ANY_DETECTOR, **self.detector})
        _check_fields("training", TrainSpec, self.training)
        _check_fields("decoding", DecodeSpec, self.decoding)
        return self


def _check_fields(key: str, kind: type[Spec], value: dict[str, Any]) -> None:
    """Every field is one of the spec's and of its type; whether they go together is seen when all are known.

    Raises:
        ValueError: names the first that is not.
    """
    try:
        kind.model_validate(value)
    except ValidationError as error:
        for first in error.errors():
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                known = did_you_mean(name, list(kind.model_fields))
                raise ValueError(f"{key}: unknown setting '{name}', {known}") from None
            if name:
                raise ValueError(f"{key}.{name}: {first['msg']}, got {brief(first['input'])}") from None


class DatasetSpec(Settings):
    """A dataset: annotations, feature streams, splits and AP method.

    Attributes:
        name: as tables show it.
        annotations: ActivityNet-style JSON file.
        modalities: name to stream, in the order in which teachers concatenate them.
        stride: frames between features; 0 = the features of a file cover its video evenly.
        window: frames under one feature.
        offset: frame at which the first feature's window begins.
        fps: overrides the fps of the annotation file.
        downsample: keep every n-th feature.
        resize: interpolate the features of every video to so many steps, whatever its length (ActivityNet).
        train: subsets trained on, matched without regard to case.
        test: subsets tested on.
        exclude: videos that are not used.
        missing: what to do about videos without features in a stream: `error`, or `skip` them in every row.
        classes: their number, where some never occur in the annotations (EPIC-Kitchens): `label_id` is then
            the index of a class, gaps included.
        ignore_labels: annotated labels that are no class, such as `Ambiguous`.
        validation: subsets among `train` that tuning holds out; empty = a share of the training videos.
        validation_fraction: that share.
        groups: regular expression whose first capture group, searched in the video id, names what no split
            may cut (a subject, a camera); empty = every video is a group of its own.
        group_field: field of a video's annotation entry that `groups` is searched in instead of the id;
            without `groups` its whole value names the group.
        folds: cross-validation: all videos of `train` and `test` are divided into so many parts of whole
            groups, the same whatever their order.
        fold: the part tested on, from 0; the others are trained on.
        scores: JSON file with the class scores of whole videos. Detectors then learn one class for all, and
            its detections get the best classes of their video (as ActionFormer does on ActivityNet).
        scores_top: how many classes that is.
        max_length: T to which training pads or crops.
        size: which size of the registered models fits.
        ap_method: how average precision is computed: as ActivityNet's evaluation does, or as the original
            THUMOS'14 development kit.
        tiou: thresholds of the mAP.
        tiou_beside: a second grid of thresholds, whose average is reported beside.
        recall: multiples k of Recall@kx, reported beside (Ego4D).
        models: by structure (`tridet`), what differs from `detector`, `training` and `decoding`.
        fingerprint: content hash of annotations and features, filled in when they are read.
    """

    name: FolderName
    annotations: Path
    modalities: dict[str, ModalitySpec]
    stride: Annotated[float, Field(ge=0.0)]
    window: Annotated[float, Field(ge=0.0)]
    offset: float = 0.0
    fps: Positive | None = None
    downsample: Count = 1
    resize: Count | None = None
    train: tuple[str, ...] = ("training",)
    test: tuple[str, ...] = ("test",)
    exclude: tuple[str, ...] = ()
    missing: Literal["error", "skip"] = "error"
    classes: Count | None = None
    ignore_labels: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.33
    groups: str = ""
    group_field: str = ""
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0
    scores: Path | None = None
    scores_top: Count = 2
    max_length: Count = 2304
    size: Size = "full"
    ap_method: Literal["activitynet", "thumos"] = "activitynet"
    tiou: tuple[Fraction, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    tiou_beside: tuple[Fraction, ...] = ()
    recall: tuple[Count, ...] = ()
    models: dict[str, Settings] = {}
    fingerprint: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not any(m.role == "primary" for m in self.modalities.values()):
            raise ValueError("modalities: at least one must have role 'primary'")
        if self.groups:
            try:
                count = re.compile(self.groups).groups
            except re.error as error:
                raise ValueError(f"groups: not a regular expression: {error}") from None
            if not count:
                raise ValueError(f"groups: '{self.groups}' has no capture group (…) around the name")
        if not {v.casefold() for v in self.validation} <= {v.casefold() for v in self.train}:
            raise ValueError(f"validation: {list(self.validation)} must be among train {list(self.train)}")
        if self.validation and self.folds:
            raise ValueError("validation: folds have no subsets, use validation_fraction")
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold: {self.fold}, folds are numbered from 0 to {(self.folds or 1) - 1}")
        if not self.tiou or min(self.tiou) == 0:
            raise ValueError(f"tiou: {list(self.tiou) or 'empty'}, give at least one threshold, all above 0")
        if self.resize and self.resize > self.max_length:
            raise ValueError(f"resize: {self.resize} steps are longer than max_length {self.max_length}")
        return self

    def channels(self, role: Literal["primary", "privileged"]) -> dict[str, int]:
        """Names and widths of the streams with that role."""
        return {name: m.channels for name, m in self.modalities.items() if m.role == role}

    def settings(self, structure: str, kind: Literal["training", "decoding"]) -> dict[str, Any]:
        """Fields of `TrainSpec` or `DecodeSpec` that a structure (`tridet`) gets on this dataset."""
        own = self.models.get(structure, Settings())
        return {**getattr(self, kind), **getattr(own, kind)}

    def at(self, base: Path) -> Self:
        """The same with its relative paths taken from a folder."""
        return self.model_copy(
            update={
                "annotations": base / self.annotations.expanduser(),
                "scores": base / self.scores.expanduser() if self.scores else None,
                "modalities": {
                    name: m.model_copy(
                        update={
                            "folder": base / m.folder.expanduser(),
                            "also": tuple(base / folder.expanduser() for folder in m.also),
                        }
                    )
                    for name, m in self.modalities.items()
                },
            }
        )
