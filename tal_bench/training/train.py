"""The training loop; there is no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tal_bench.config import DetectorSpec, TrainSpec
from tal_bench.data.batches import training_batches
from tal_bench.data.dataset import Video
from tal_bench.data.prefetch import prefetched
from tal_bench.distill.objective import DistillationObjective
from tal_bench.training.device import Device
from tal_bench.training.step import TrainingStep
from tal_bench.training.training_checkpoint import TrainingCheckpointer

AfterEpoch = Callable[[int, dict[str, float], nn.Module], bool]
"""(epochs done, mean losses, averaged student) -> whether to stop."""


def train(
    student: nn.Module,
    architecture: DetectorSpec,
    videos: Sequence[Video],
    spec: TrainSpec,
    *,
    seed: int,
    device: Device,
    teachers: Mapping[str, nn.Module] | None = None,
    objective: DistillationObjective | None = None,
    after_epoch: AfterEpoch = lambda epoch, losses, model: False,
    checkpointer: TrainingCheckpointer | None = None,
) -> nn.Module:
    """Train a student on labels and, given an objective, on its teachers.

    Order, crops and drop path depend on ``seed`` alone, so rows of a study see the same batches.

    Args:
        student: its weights are trained in place.
        architecture: of the student.
        videos: with every modality that student and teachers read.
        spec: schedule.
        seed: of everything random after the initial weights.
        device: where, and in which precision.
        teachers: role to frozen teacher.
        objective: the distillation; none = labels only.
        after_epoch: called after every epoch.
        checkpointer: keeps the state between epochs; a training that it knows goes on there.

    Returns:
        The averaged weights, in eval mode.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng([seed, 0x7A1])
    per_epoch = len(videos) // spec.batch_size
    step = TrainingStep(
        student,
        architecture,
        spec,
        steps_per_epoch=per_epoch,
        device=device,
        teachers=teachers,
        objective=objective,
    )
    modalities = tuple(videos[0].features)
    done = checkpointer.restore(step, generator) if checkpointer else 0
    for epoch in range(done + 1, spec.total_epochs + 1):
        sums: dict[str, Tensor] = {}
        batches = training_batches(
            videos, spec=spec, max_length=architecture.max_length, modalities=modalities, generator=generator
        )
        for batch in prefetched(batches, device.pin):
            losses = step(batch)
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
        means = {name: float(value) / per_epoch for name, value in sums.items()}
        if after_epoch(epoch, means, step.average.module):
            break
        if checkpointer is not None:
            checkpointer.save(epoch, step, generator)
    return step.average.module


def initialise_from(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Copy the teacher's weights whose names and shapes the student shares; return their names."""
    theirs, ours = teacher.state_dict(), student.state_dict()
    shared = [key for key, value in ours.items() if key in theirs and theirs[key].shape == value.shape]
    student.load_state_dict({**ours, **{key: theirs[key] for key in shared}})
    return shared
