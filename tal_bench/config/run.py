"""A run: one training with its evaluation, distillation included."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tal_bench.config.base import Count, Fraction, Positive, Spec, content_hash
from tal_bench.config.dataset import DatasetSpec
from tal_bench.config.detector import DetectorSpec
from tal_bench.config.training import DecodeSpec, TrainSpec


class Range(Spec):
    """Values of a tuned number.

    Attributes:
        low: smallest.
        high: largest.
        log: whether ratios matter rather than differences.
        step: between values that are tried, from `low` on; none = any value between.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    low: float
    high: float
    log: bool = True
    step: Positive | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(f"log: needs low above 0 and no step, got low {self.low:g}, step {self.step}")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """Every value of a stepped range; ends and middle of another."""
        if self.step is not None:
            count = int((self.high - self.low) / self.step + 1e-9)
            return tuple(self.low + k * self.step for k in range(count + 1))
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return tuple(dict.fromkeys((self.low, middle, self.high)))

    def nearest(self, value: float) -> float:
        """The value of the range that is nearest."""
        inside = min(max(value, self.low), self.high)
        return inside if self.step is None else min(self.values, key=lambda v: abs(v - inside))


Search = Range | Annotated[tuple[float, ...], Field(min_length=1)]
"""A range, or the values to choose from."""


def choices(values: Search) -> tuple[float, ...]:
    """What a grid tries."""
    return values.values if isinstance(values, Range) else values


def grid_size(space: Mapping[str, Search]) -> int:
    """Number of points of a grid."""
    return math.prod(len(choices(values)) for values in space.values())


Pruner = Literal["median", "sha", "hyperband", "none"]


class TeacherUse(Spec):
    """A trained teacher in a distillation.

    Attributes:
        run: hash of the run that trained it.
        model: its registered name.
        weight: its share in terms that mix teachers.
    """

    run: str
    model: str
    weight: Fraction = 1.0


class TermUse(Spec):
    """A distillation term in an objective.

    Attributes:
        name: registered term.
        teacher: role of the teacher it looks at, or `mix` for the weighted mean over all teachers.
        weight: its coefficient.
        temperature_power: p in coefficient = weight * temperature**p.
    """

    name: str
    teacher: str
    weight: Annotated[float, Field(ge=0.0)]
    temperature_power: int = 0


class DistillSpec(Spec):
    """Objective (1 - lambda) * labels + lambda * sum of terms.

    Attributes:
        teachers: role to trained teacher.
        terms: what is matched.
        soft_weight: lambda.
        temperature: tau of the logits terms.
        student_init: `random`, or the role of the teacher whose matching weights the student starts from.
        precision: what the teachers compute in; `student` = the same as the student.
        count_padding: let padded positions count in the terms' means, as the original code does.
    """

    teachers: dict[str, TeacherUse]
    terms: tuple[TermUse, ...]
    soft_weight: Fraction = 0.6
    temperature: Positive = 2.0
    student_init: str = "random"
    precision: Literal["student", "fp32", "bf16"] = "student"
    count_padding: bool = False


Phase = Literal["tuning", "final"]
"""Tuning runs are evaluated on validation, final runs on test."""


class RunSpec(Spec):
    """One training with its evaluation: the unit of work, of resuming and of reporting.

    Attributes:
        dataset: with its fingerprint filled in.
        model: registered name.
        detector: architecture.
        train: schedule.
        decode: post-processing.
        distill: none for training on labels alone.
        phase: `tuning` trains on the training part and evaluates on validation; `final` trains on both
            and evaluates on test.
        seed: of initial weights, order and crops.
        videos: use only the first so many videos of each split.
        precision: of the matrix products.
        weights: hash of weights that a person brought and that are tested as they are; none = trained.
        pruner: rule that may end a tuning run early.
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
    precision: Literal["fp32", "bf16"] = "fp32"
    weights: str | None = None
    pruner: Pruner = "median"

    @property
    def hash(self) -> str:
        """Identity of the experiment; where the files lie is no part of it, what is in them is."""
        value = self.model_dump(mode="json")
        for key in ("annotations", "scores"):
            value["dataset"].pop(key)
        for modality in value["dataset"]["modalities"].values():
            modality.pop("folder")
            modality.pop("also")
        return content_hash({"version": 1, **value})
