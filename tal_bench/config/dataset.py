"""Specification of a dataset: annotations, feature streams, splits, AP method and settings of its models."""

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
"""Suffixes of the feature files that can be read."""

DERIVED = {
    "structure",
    "inputs",
    "primary",
    "privileged",
    "classes",
    "max_length",
    "temporal_attention",
}
"""Fields of `DetectorSpec` that follow from other keys of the dataset or from the model's name."""

REQUIRED_FIELDS = {"structure": "conv", "inputs": "primary", "primary": {"any": 1}, "classes": 1}
"""Values of the required fields of `DetectorSpec`, to validate the other fields before a model is known."""


class ModalitySpec(Spec):
    """One feature stream and the location of its files.

    Attributes:
        role: `primary` = read by students and teachers, `privileged` = read by teachers only.
        folder: Folder of the feature files, relative to the dataset file.
        channels: Width of the feature vectors, summed over all files of a video.
        also: Further folders with a file of the same name per video; their channels are concatenated to
            those of `folder` in this order.
        prefix: Text before the video id in the file name.
        suffix: Text after the video id in the file name, including the file type: `.npy`, `.npz` or `.pt`.
        columns: Half-open range of columns, for several streams that share a file.
        nonnegative: Whether the features are >= 0 (after a ReLU), as I3D's are; the branch that hallucinates
            them then ends in a ReLU.
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
    def _validate_files(self) -> Self:
        if self.columns and not (self.columns[0] >= 0 and self.columns[1] - self.columns[0] == self.channels):
            raise ValueError(f"columns {list(self.columns)} are not {self.channels} channels wide")
        if self.columns and self.also:
            raise ValueError("columns: cannot be combined with 'also', use one of them")
        if not self.suffix.lower().endswith(FILE_TYPES):
            raise ValueError(
                f"suffix: '{self.suffix}' does not end in a supported file type ({', '.join(FILE_TYPES)})"
            )
        return self


class Overrides(Spec):
    """Changes of a dataset to the published default settings.

    Attributes:
        detector: Fields of `DetectorSpec` to change, for networks of the dataset's `size`.
        training: Fields of `TrainSpec` to change.
        decoding: Fields of `DecodeSpec` to change.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    detector: dict[str, Any] = {}
    training: dict[str, Any] = {}
    decoding: dict[str, Any] = {}

    @model_validator(mode="after")
    def _validate_settings(self) -> Self:
        for name in self.detector:
            if name not in DetectorSpec.model_fields or name in DERIVED:
                raise ValueError(f"detector: '{name}' is not a setting of a detector, see DetectorSpec")
        _check_fields("detector", DetectorSpec, {**REQUIRED_FIELDS, **self.detector})
        _check_fields("training", TrainSpec, self.training)
        _check_fields("decoding", DecodeSpec, self.decoding)
        return self


def _check_fields(key: str, kind: type[Spec], value: dict[str, Any]) -> None:
    """Check names and types of some fields of a spec.

    Errors of model validators are ignored: whether the values fit together can be checked only when all
    fields are known.

    Raises:
        ValueError: A field is unknown or has the wrong type; the message names the first one.
    """
    try:
        kind.model_validate(value)
    except ValidationError as error:
        for first in error.errors():
            name = ".".join(map(str, first["loc"]))
            if first["type"] == "extra_forbidden":
                hint = did_you_mean(name, list(kind.model_fields))
                raise ValueError(f"{key}: unknown setting '{name}', {hint}") from None
            if name:
                raise ValueError(f"{key}.{name}: {first['msg']}, got {brief(first['input'])}") from None


class DatasetSpec(Overrides):
    """Specification of a dataset: annotations, feature streams, splits and AP method.

    Attributes:
        name: Name of the dataset in tables.
        annotations: ActivityNet-style JSON file.
        modalities: Feature streams by name, in the order in which teachers concatenate them.
        stride: Frames between two features; 0 = the features of a file cover its video evenly.
        window: Frames under one feature.
        offset: Frame at which the window of the first feature begins.
        fps: Frame rate, in place of the one in the annotation file.
        downsample: Keep every n-th feature.
        resize: Number of steps to which the features of every video are interpolated (ActivityNet); null =
            not interpolated.
        train: Subsets to train on, matched case-insensitively.
        test: Subsets to test on, matched case-insensitively.
        exclude: Ids of videos that are not used.
        missing: Handling of videos without features in a stream: `error` = stop, `skip` = leave the video
            out of every row.
        classes: Number of classes, for datasets in which some classes have no annotation (EPIC-Kitchens);
            `label_id` is then the index of a class. null = the classes are those that occur.
        ignore_labels: Annotated labels that are not classes, such as `Ambiguous`; their segments are ignored.
        validation: Subsets among `train` that are held out for tuning; empty = a share of the training
            videos.
        validation_fraction: Share of the training videos held out for tuning when `validation` is empty.
        groups: Regular expression searched in the video id; its first capture group names the group of the
            video (a subject, a camera), and no split divides a group. Empty = every video is its own group.
        group_field: Field of a video's annotation entry in which `groups` is searched instead of the id;
            without `groups`, the whole value names the group.
        folds: Number of folds of cross-validation. All videos of `train` and `test` are divided into folds of
            whole groups, independent of their order. null = no cross-validation.
        fold: Index of the fold to test on, from 0; the other folds are trained on.
        scores: JSON file with class scores of whole videos. Detectors then learn a single class, and each
            detection gets the best classes of its video (as ActionFormer does on ActivityNet).
        scores_top: Number of classes of its video that each detection gets.
        max_length: T, the number of steps to which training pads or crops.
        size: Size of the registered models on this dataset.
        ap_method: AP method: that of ActivityNet's evaluation, or that of the original THUMOS'14 development
            kit.
        tiou: tIoU thresholds of the mAP.
        extra_tiou: Second set of tIoU thresholds, whose average mAP is reported in addition.
        recall: Multiples k of Recall@kx, reported in addition (Ego4D).
        models: Changes to `detector`, `training` and `decoding` for single structures (`tridet`).
        fingerprint: Content hash of annotations and features, filled in when they are read.
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
    classes: Annotated[int, Field(ge=1, le=100_000)] | None = None
    ignore_labels: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.33
    groups: str = ""
    group_field: str = ""
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0
    scores: Path | None = None
    scores_top: Count = 2
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 2304
    size: Size = "full"
    ap_method: Literal["activitynet", "thumos"] = "activitynet"
    tiou: tuple[Fraction, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    extra_tiou: tuple[Fraction, ...] = ()
    recall: tuple[Count, ...] = ()
    models: dict[str, Overrides] = {}
    fingerprint: str = ""

    @model_validator(mode="after")
    def _validate_fields(self) -> Self:
        if not any(m.role == "primary" for m in self.modalities.values()):
            raise ValueError("modalities: at least one must have role 'primary'")
        if self.groups:
            try:
                count = re.compile(self.groups).groups
            except re.error as error:
                raise ValueError(f"groups: not a regular expression: {error}") from None
            if not count:
                raise ValueError(f"groups: '{self.groups}' has no capture group (…) for the group's name")
        if not {v.casefold() for v in self.validation} <= {v.casefold() for v in self.train}:
            raise ValueError(f"validation: {list(self.validation)} must be among train {list(self.train)}")
        if self.validation and self.folds:
            raise ValueError("validation: cannot be combined with folds, use validation_fraction")
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold: {self.fold}, folds are numbered from 0 to {(self.folds or 1) - 1}")
        if not self.tiou or min(self.tiou) == 0:
            raise ValueError(f"tiou: {list(self.tiou) or 'empty'}, give at least one threshold, all above 0")
        if self.resize and self.resize > self.max_length:
            raise ValueError(f"resize: {self.resize} steps are longer than max_length {self.max_length}")
        return self

    def channels(self, role: Literal["primary", "privileged"]) -> dict[str, int]:
        """Return names and widths of the streams with the given role."""
        return {name: m.channels for name, m in self.modalities.items() if m.role == role}

    def settings(self, structure: str, kind: Literal["training", "decoding"]) -> dict[str, Any]:
        """Return the changed fields of `TrainSpec` or `DecodeSpec` for a structure (`tridet`)."""
        changes = self.models.get(structure, Overrides())
        return {**getattr(self, kind), **getattr(changes, kind)}

    def at(self, base: Path) -> Self:
        """Return a copy whose relative paths are resolved against a folder."""
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
