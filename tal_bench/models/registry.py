"""Registry of detectors, and the architecture and recipes of a registered detector on a dataset.

Names are `<structure>[-primary|-privileged|-hallucinated|-decomposed][-ta][-small]`. Teachers may read
privileged modalities, students never do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tal_bench.config import (
    DatasetSpec,
    DecodeSpec,
    DetectorSpec,
    Inputs,
    Range,
    Size,
    TrainSpec,
    parse_spec,
)
from tal_bench.models.detector import Detector
from tal_bench.models.structures import parse_detector, structures
from tal_bench.registry import Registry

SIZES: dict[Size, dict[str, Any]] = {
    "full": {},
    "small": {
        "width": 48,
        "head_width": 48,
        "stem_blocks": 1,
        "branch_blocks": 4,
        "head_layers": 1,
        "regression_ranges": ((0, 4), (4, 8), (8, 16), (16, 32), (32, 10000)),
        "offset_activation": "softplus",
        "whiten": 128,
        "hallucination_width": 48,
    },
}
"""Differences from the published THUMOS14 architecture by size.

`small` is for the embedded datasets. It was chosen on the validation part of `sprites`, with teachers and
students trained on labels only.
"""

TRAINING: dict[Size, TrainSpec] = {
    "full": TrainSpec(),
    "small": TrainSpec(
        epochs=16,
        warmup_epochs=4,
        batch_size=2,
        lr=4e-3,
        lr_width=192,
        ema=0.99,
        loss_normalizer=40.0,
        validate_every=5,
    ),
}
"""Training recipes by size."""


@dataclass(frozen=True, slots=True)
class Model:
    """A registered detector.

    Attributes:
        name: Registered name.
        structure: Name of the structure.
        inputs: Modalities that it reads.
        temporal_attention: Whether it has the temporal-attention neck.
        size: Size of the network; None means that of the dataset.
        overrides: Further fields of `DetectorSpec`.
        search: Search ranges of the sizes that studies may tune; empty means those of `models.size_space`.
        build: Function from the spec to a module that maps a `Batch` to a `DetectorOutput`.
        summary: One line for `tal-bench list`.
    """

    name: str
    structure: str
    inputs: Inputs
    temporal_attention: bool = False
    size: Size | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Range] = field(default_factory=dict)
    build: Callable[[DetectorSpec], nn.Module] = Detector
    summary: str = ""

    @property
    def is_student(self) -> bool:
        """Whether it reads primary modalities only."""
        return self.inputs in ("primary", "hallucinated", "decomposed")


DECLARATIONS = "tal_bench.models.students_and_teachers"
teachers: Registry[Model] = Registry("teacher", DECLARATIONS)
students: Registry[Model] = Registry("student", DECLARATIONS)


def model_name(
    structure: str, inputs: Inputs = "all", *, temporal_attention: bool = False, size: Size | None = None
) -> str:
    """Return the name of a model with these properties."""
    parts = [structure]
    if inputs != "all":
        parts.append(inputs)
    if temporal_attention:
        parts.append("ta")
    if size is not None and size != "full":
        parts.append(size)
    return "-".join(parts)


def get_model(name: str) -> Model:
    """Return the registered teacher or student with this name.

    Raises:
        InputError: If no model has this name.
    """
    if name in teachers:
        return teachers.get(name)
    return students.get(name) if name in students else _all_models().get(name)


def _all_models() -> Registry[Model]:
    models: Registry[Model] = Registry("model")
    for registry in (students, teachers):
        for name in registry:
            models.add(name, registry.get(name))
    return models


def model_names() -> list[str]:
    """Return the names of all registered students and teachers."""
    return _all_models().names()


def training_recipe(model: Model, dataset: DatasetSpec) -> TrainSpec:
    """Return the training settings of a model on a dataset.

    Settings of the dataset take precedence over those of the structure, and these over those of the dataset's
    size. The size of the model itself is not considered.
    """
    value = {
        **TRAINING[dataset.size].model_dump(),
        **structures.get(model.structure).training.get(dataset.size, {}),
        **dataset.settings(model.structure, "training"),
    }
    return parse_spec(TrainSpec, value, where=f"dataset '{dataset.name}', training")


def decoding_recipe(model: Model, dataset: DatasetSpec) -> DecodeSpec:
    """Return the post-processing settings of a model on a dataset; precedence as in `training_recipe`."""
    value = {
        **structures.get(model.structure).decoding.get(dataset.size, {}),
        **dataset.settings(model.structure, "decoding"),
    }
    return parse_spec(DecodeSpec, value, where=f"dataset '{dataset.name}', decoding")


def detector_spec(model: Model, dataset: DatasetSpec, classes: int) -> DetectorSpec:
    """Return the architecture of a model on a dataset.

    In decreasing precedence: overrides of the model, settings of the dataset for the structure, settings of
    the structure, settings of the dataset for networks of its size, settings of the size.

    Raises:
        InputError: If the model cannot be built for the dataset, for instance without a privileged modality,
            or its structure or one for which the dataset has settings is unknown.
    """
    privileged = [m for m in dataset.modalities.values() if m.role == "privileged"]
    nonnegative = all(m.nonnegative for m in privileged)
    for name in dataset.models:
        structures.get(name, where=f"dataset '{dataset.name}', models")
    where = f"model '{model.name}' on dataset '{dataset.name}'"
    size = model.size or dataset.size
    common, own = {}, {}
    if size == dataset.size:
        common = dataset.detector
        own = dataset.models[model.structure].detector if model.structure in dataset.models else {}
    value: dict[str, Any] = {
        "structure": model.structure,
        "inputs": model.inputs,
        "primary": dataset.channels("primary"),
        "privileged": dataset.channels("privileged"),
        "classes": classes,
        "max_length": dataset.max_length,
        "temporal_attention": model.temporal_attention,
        **SIZES[size],
        **common,
        **structures.get(model.structure, where=where).detector,
        **own,
        **model.overrides,
    }
    # standardised features and principal components are signed
    linear = value.get("standardise") or value.get("whiten") or not nonnegative
    value.setdefault("hallucination_activation", "linear" if linear else "relu")
    return parse_detector(value, where=where)
