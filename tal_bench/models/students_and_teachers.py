"""Declarations of the built-in students and teachers: every structure with every choice of inputs."""

from __future__ import annotations

from itertools import product
from typing import cast

from tal_bench.config import Inputs, Size
from tal_bench.models.registry import STRUCTURES, Model, model_name, students, teachers
from tal_bench.registry import Registry

STUDENT_INPUTS: dict[Inputs, str] = {
    "primary": "primary modalities only",
    "hallucinated": "primary modalities, privileged ones hallucinated from them",
}
TEACHER_INPUTS: dict[Inputs, str] = {"all": "all modalities", "privileged": "privileged modalities only"}
SIZES = cast("tuple[Size | None, ...]", (None, "small"))


def _declare(registry: Registry[Model], inputs: dict[Inputs, str]) -> None:
    for structure, (choice, summary), attention, size in product(
        STRUCTURES, inputs.items(), (False, True), SIZES
    ):
        name = model_name(structure, choice, temporal_attention=attention, size=size)
        registry.add(name, Model(name, structure, choice, attention, size, summary=summary))


_declare(students, STUDENT_INPUTS)
_declare(teachers, TEACHER_INPUTS)
