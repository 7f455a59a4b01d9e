"""Specification of a run: one training with its evaluation, including distillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tal_bench.config.base import Count, Fraction, Positive, Spec, content_hash, without_later_fields
from tal_bench.config.dataset import DatasetSpec
from tal_bench.config.detector import DetectorSpec
from tal_bench.config.training import DecodeSpec, TrainSpec


class Range(Spec):
    """Range of a tuned number.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether values are sampled in the log domain.
        step: Distance between the values, starting from `low`; null = continuous.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    low: float
    high: float
    log: bool = True
    step: Positive | None = None

    @model_validator(mode="after")
    def _validate_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(f"log: needs low above 0 and no step, got low {self.low:g}, step {self.step}")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """All values of a range with a step; both ends and the middle of a continuous range."""
        if self.step is not None:
            count = int((self.high - self.low) / self.step + 1e-9)
            return tuple(self.low + k * self.step for k in range(count + 1))
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return tuple(dict.fromkeys((self.low, middle, self.high)))

    def nearest(self, value: float) -> float:
        """Return the value of the range that is nearest to ``value``."""
        inside = min(max(value, self.low), self.high)
        return inside if self.step is None else min(self.values, key=lambda v: abs(v - inside))


Search = Range | Annotated[tuple[float, ...], Field(min_length=1)]
"""Search space of one setting: a range, or a list of values to choose from."""


def choices(values: Search) -> tuple[float, ...]:
    """Return the values that a grid search tries."""
    return values.values if isinstance(values, Range) else values


def grid_size(space: Mapping[str, Search]) -> int:
    """Return the number of points of a grid search."""
    return math.prod(len(choices(values)) for values in space.values())


Pruner = Literal["median", "sha", "hyperband", "none"]
Precision = Literal["fp32", "tf32", "bf16"]
"""Precision of matrix products and convolutions; `tf32` exists on GPUs only."""


class TeacherUse(Spec):
    """Trained teacher of a distillation.

    Attributes:
        run: Hash of the run that trained the teacher.
        model: Registered name of the teacher.
        weight: Weight of the teacher in terms that mix teachers.
    """

    run: str
    model: str
    weight: Fraction = 1.0


class TermUse(Spec):
    """Distillation term of an objective.

    Attributes:
        name: Registered name of the term.
        teacher: Role of the teacher that the term matches, or `mix` for the weighted mean over all teachers.
        weight: Weight of the term.
        temperature_power: p of the term's coefficient weight * temperature**p.
    """

    name: str
    teacher: str
    weight: Annotated[float, Field(ge=0.0)]
    temperature_power: int = 0


class DistillSpec(Spec):
    """Distillation objective (1 - lambda) * label loss + lambda * sum of terms.

    Attributes:
        teachers: Trained teachers by role.
        terms: Distillation terms.
        soft_weight: lambda, the weight of the distillation terms.
        temperature: tau, the temperature of the logits terms.
        student_init: Initialization of the student: `random`, or the role of the teacher whose matching
            weights are copied.
        precision: Precision in which teachers compute; `student` = that of the student.
        count_padding: Whether padded positions count in the means of the terms, as in the original code.
    """

    teachers: dict[str, TeacherUse]
    terms: tuple[TermUse, ...]
    soft_weight: Fraction = 0.6
    temperature: Positive = 2.0
    student_init: str = "random"
    precision: Literal["student"] | Precision = "student"
    count_padding: bool = False


Phase = Literal["tuning", "final"]
"""Phase of a run: tuning runs are evaluated on validation, final runs on test."""


LATER_FIELDS: tuple[tuple[str, object], ...] = (
    ("detector.standardise", False),
    ("detector.whiten", None),
    ("train.lr_width", None),
    ("device", "cpu"),
    ("deterministic", False),
)
"""Place and default of fields that were added after the first release. Hashes leave them out where they
have their default, so that earlier results stay valid."""


def hashed_fields(detector: DetectorSpec) -> dict[str, Any]:
    """Return the fields of an architecture that enter a hash."""
    parts = without_later_fields({"detector": detector.model_dump(mode="json")}, LATER_FIELDS)
    fields: dict[str, Any] = parts["detector"]
    return fields


class RunSpec(Spec):
    """Specification of one training with its evaluation: the unit of work, of resuming and of reporting.

    Attributes:
        dataset: Dataset, with its fingerprint filled in.
        model: Registered name of the model.
        detector: Architecture of the detector.
        train: Training settings.
        decode: Post-processing settings.
        distill: Distillation objective; null = training on labels only.
        phase: `tuning` = trained on the training part and evaluated on validation, `final` = trained on both
            and evaluated on test.
        seed: Seed of initial weights, order of videos and crops.
        videos: Number of videos used of each split, from the first on; null = all.
        precision: Precision of matrix products.
        device: Kind of device that computes the run, since its rounding differs.
        deterministic: Whether a GPU has to use algorithms that repeat their results; always false on the CPU,
            which repeats them anyway.
        weights: Hash of external weights that are evaluated without training; null = trained by this run.
        pruner: Pruner that may end a tuning run early.
    """

    dataset: DatasetSpec
    model: str
    detector: DetectorSpec
    train: TrainSpec
    decode: DecodeSpec = DecodeSpec()
    distill: DistillSpec | None = None
    phase: Phase = "final"
    seed: Annotated[int, Field(ge=0)] = 0
    videos: Count | None = None
    precision: Precision = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    deterministic: bool = False
    weights: str | None = None
    pruner: Pruner = "median"

    @property
    def hash(self) -> str:
        """Identity of the experiment; it covers the content of the data, not the paths of its files."""
        value = self.model_dump(mode="json")
        for key in ("annotations", "scores"):
            value["dataset"].pop(key)
        for modality in value["dataset"]["modalities"].values():
            modality.pop("folder")
            modality.pop("also")
        return content_hash({"version": 1, **without_later_fields(value, LATER_FIELDS)})
