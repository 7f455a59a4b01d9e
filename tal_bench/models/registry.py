"""Registered detectors: names and declarations; from a name to an architecture for a dataset.

Names are `<structure>[-primary|-privileged|-hallucinated][-ta][-small]`. Teachers may read privileged
modalities, students never do.
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
    Structure,
    TrainSpec,
    parse_spec,
)
from tal_bench.errors import InputError
from tal_bench.models.detector import Detector
from tal_bench.registry import Registry, did_you_mean

STRUCTURES: dict[str, Structure] = {
    "actionformer": "transformer",
    "conv": "conv",
    "conv-dw": "conv_dw",
    "tridet": "sgp",
    "temporalmaxer": "maxpool",
}
"""Public name of a structure to its block."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    # without attention there are no windows to pad to; C2MS-Net's own programs pad to them all the same
    "conv": {"attention_window": 1},
    "conv-dw": {"attention_window": 1},
    "tridet": {"trident": True},
    "temporalmaxer": {"attention_window": 1, "stem_blocks": 0},
}
"""What differs from ActionFormer's architecture besides the block."""

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
    },
}
"""What differs from the published THUMOS14 architecture; small nets are for the embedded dataset.

Chosen on the validation part of `sprites` with teachers and students trained on labels alone.
"""

TRAINING: dict[Size, TrainSpec] = {
    "full": TrainSpec(),
    "small": TrainSpec(
        epochs=8, warmup_epochs=2, batch_size=2, lr=4e-3, ema=0.99, loss_normalizer=40.0, validate_every=4
    ),
}
"""Training recipes by size."""

RECIPES: dict[str, dict[Size, dict[str, Any]]] = {
    "tridet": {
        "full": {
            "warmup_epochs": 20,
            "epochs": 20,
            "weight_decay": 0.025,
            "iou_power": 0.2,
            "input_noise": 5e-4,
        },
        "small": {"iou_power": 0.2},
    }
}
"""What a structure's own recipe changes (TriDet's for THUMOS14)."""

DECODING: dict[str, dict[Size, dict[str, Any]]] = {
    "tridet": {
        "full": {"max_detections": 2000, "voting_weight": "score"},
        "small": {"voting_weight": "score"},
    }
}
"""What a structure's own post-processing changes (TriDet's for THUMOS14)."""


@dataclass(frozen=True, slots=True)
class Model:
    """A registered detector.

    Attributes:
        name: registered name.
        structure: public name of its structure.
        inputs: which modalities it reads.
        temporal_attention: whether it has the temporal-attention neck.
        size: none = as the dataset says.
        overrides: further fields of `DetectorSpec`.
        search: sizes that studies may tune, and their ranges; empty = those of `models.sizes`.
        build: from the spec to a module that maps `Batch` to `DetectorOutput`.
        summary: one line for `tal-bench list`.
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
        """Whether it does without privileged modalities."""
        return self.inputs in ("primary", "hallucinated")


DECLARATIONS = "tal_bench.models.students_and_teachers"
teachers: Registry[Model] = Registry("teacher", DECLARATIONS)
students: Registry[Model] = Registry("student", DECLARATIONS)


def model_name(
    structure: str, inputs: Inputs = "all", *, temporal_attention: bool = False, size: Size | None = None
) -> str:
    """Compose a name."""
    parts = [structure]
    if inputs != "all":
        parts.append(inputs)
    if temporal_attention:
        parts.append("ta")
    if size is not None and size != "full":
        parts.append(size)
    return "-".join(parts)


def get_model(name: str) -> Model:
    """Any registered detector, teacher or student.

    Raises:
        InputError: unknown name.
    """
    if name in teachers:
        return teachers.get(name)
    return students.get(name) if name in students else _all_models().get(name)


def _all_models() -> Registry[Model]:
    every: Registry[Model] = Registry("model")
    for registry in (students, teachers):
        for name in registry:
            every.add(name, registry.get(name))
    return every


def model_names() -> list[str]:
    """All registered detectors."""
    return _all_models().names()


def training_recipe(model: Model, dataset: DatasetSpec) -> TrainSpec:
    """How a model is trained on a dataset; the network's own size does not matter.

    What the dataset sets goes before the structure's own recipe, which goes before that of the size.
    """
    value = {
        **TRAINING[dataset.size].model_dump(),
        **RECIPES.get(model.structure, {}).get(dataset.size, {}),
        **dataset.settings(model.structure, "training"),
    }
    return parse_spec(TrainSpec, value, where=f"dataset '{dataset.name}', training")


def decoding_recipe(model: Model, dataset: DatasetSpec) -> DecodeSpec:
    """How a model's output becomes segments on a dataset; precedence as in `training_recipe`."""
    value = {
        **DECODING.get(model.structure, {}).get(dataset.size, {}),
        **dataset.settings(model.structure, "decoding"),
    }
    return parse_spec(DecodeSpec, value, where=f"dataset '{dataset.name}', decoding")


def detector_spec(model: Model, dataset: DatasetSpec, classes: int) -> DetectorSpec:
    """The architecture of a model on a dataset.

    The model's own overrides go before the structure's, those before what the dataset sets for networks of
    its size, and that before the size's; what the dataset sets for one structure goes before the structure's.

    Raises:
        InputError: the model cannot be built for it, for instance without a privileged modality, or the
            dataset has settings of an unknown structure.
    """
    privileged = [m for m in dataset.modalities.values() if m.role == "privileged"]
    nonnegative = all(m.nonnegative for m in privileged)
    for name in dataset.models:
        if name not in STRUCTURES:
            raise InputError(
                f"unknown structure '{name}'",
                where=f"dataset '{dataset.name}', models",
                hint=did_you_mean(name, list(STRUCTURES)),
            )
    size = model.size or dataset.size
    common, own = {}, {}
    if size == dataset.size:
        common = dataset.detector
        own = dataset.models[model.structure].detector if model.structure in dataset.models else {}
    value = {
        "structure": STRUCTURES[model.structure],
        "inputs": model.inputs,
        "primary": dataset.channels("primary"),
        "privileged": dataset.channels("privileged"),
        "classes": classes,
        "max_length": dataset.max_length,
        "temporal_attention": model.temporal_attention,
        "hallucination_activation": "relu" if nonnegative else "linear",
        **SIZES[size],
        **common,
        **ARCHITECTURES.get(model.structure, {}),
        **own,
        **model.overrides,
    }
    return parse_spec(DetectorSpec, value, where=f"model '{model.name}' on dataset '{dataset.name}'")
