"""Multiply-accumulates of a training: forward and backward passes of the student, forward of its teachers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tal_bench.config import DetectorSpec
from tal_bench.models.registry import get_model
from tal_bench.profiling.model import count
from tal_bench.studies.run_specs import RunSpecs

STEP = 3
"""MACs of a training step in forward passes: the gradients of inputs and of weights cost one each."""


def step_macs(run_specs: RunSpecs, student: str, teachers: Iterable[str] = ()) -> int:
    """Count the MACs of a training step per video of the batch.

    Args:
        run_specs: Gives the architectures on the study's dataset.
        student: Registered name.
        teachers: Models that teach it; each computes its forward pass once.
    """
    own = STEP * forward_macs(run_specs, student)
    return own + sum(forward_macs(run_specs, teacher) for teacher in dict.fromkeys(teachers))


def forward_macs(run_specs: RunSpecs, model: str) -> int:
    """Count the MACs of a forward pass per video; those of a teacher from a file, too."""
    architecture = run_specs.architecture(model)
    frames = run_specs.dataset.max_length
    if run_specs.is_imported(model):
        return count(run_specs.model(model), architecture, frames)[1]
    return counted(model, architecture.model_dump_json(), frames)[1]


@lru_cache(maxsize=256)
def counted(model: str, detector: str, frames: int) -> tuple[int, int]:
    """Count parameters and forward MACs of a registered model, once per architecture."""
    return count(get_model(model), DetectorSpec.model_validate_json(detector), frames)
