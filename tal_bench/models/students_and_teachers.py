"""Declarations of students and teachers: every structure, also of plugins, with every choice of inputs."""

from __future__ import annotations

from itertools import product
from typing import cast

from tal_bench.config import Inputs, Size
from tal_bench.models.registry import Model, model_name, students, teachers
from tal_bench.models.structures import structures

STUDENT_INPUTS: dict[Inputs, str] = {
    "primary": "primary modalities only",
    "hallucinated": "primary modalities, privileged ones hallucinated from them",
    "decomposed": "primary modalities, in a motion and an appearance branch",
}
TEACHER_INPUTS: dict[Inputs, str] = {"all": "all modalities", "privileged": "privileged modalities only"}
SIZES = cast("tuple[Size | None, ...]", (None, "small"))


def declare(structure: str) -> None:
    """Register the students and teachers of a structure."""
    for registry, inputs in ((students, STUDENT_INPUTS), (teachers, TEACHER_INPUTS)):
        for (choice, summary), attention, size in product(inputs.items(), (False, True), SIZES):
            name = model_name(structure, choice, temporal_attention=attention, size=size)
            registry.add(name, Model(name, structure, choice, attention, size, summary=summary))


structures.for_each(declare)
