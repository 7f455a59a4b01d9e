"""Training loop of teachers and students."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tal_bench.config import DetectorSpec, TrainSpec
from tal_bench.data.batches import training_crops
from tal_bench.data.dataset import Video
from tal_bench.distill.objective import DistillationObjective
from tal_bench.models.backbone import sufficient_length
from tal_bench.models.detector import Detector
from tal_bench.training.batch_sources.choice import training_source
from tal_bench.training.device import Device
from tal_bench.training.recorded_step import RecordedStep, recorded_on
from tal_bench.training.step import TrainingStep
from tal_bench.training.teacher_cache import TeacherCache
from tal_bench.training.teachers_ahead import outputs_ahead
from tal_bench.training.training_checkpoint import TrainingCheckpointer
from tal_bench.types import Batch, Outputs

AfterEpoch = Callable[[int, dict[str, float], nn.Module], bool]
"""Callback (completed epochs, mean losses, averaged student) -> whether to stop."""


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
    teacher_cache: TeacherCache | None = None,
    graphs: bool = False,
) -> nn.Module:
    """Train a detector on labels and, given an objective, on the outputs of its teachers.

    Order, crops and drop path depend only on ``seed``, so rows of a study are trained on the same batches.

    Args:
        student: Detector, whose weights are trained in place.
        architecture: Architecture of the student.
        videos: Training videos, with every modality that student and teachers read.
        spec: Training settings.
        seed: Seed of all randomness after the initial weights.
        device: Device and precision of the training.
        teachers: Frozen teachers by role.
        objective: Distillation objective; None means labels only.
        after_epoch: Callback after every epoch.
        checkpointer: Saves the state between epochs; a training with a saved state is resumed from it.
        teacher_cache: Keeps outputs of the teachers for later trainings; results do not change.
        graphs: Whether steps on a GPU are recorded as CUDA graphs; batches then have one length.

    Returns:
        The student with averaged weights, in eval mode.
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
    source = training_source(videos, device)
    completed = checkpointer.restore(step, generator) if checkpointer else 0
    advance: TrainingStep | RecordedStep = step
    length_of = batch_length([student, *(teachers or {}).values()], architecture.max_length, spec, objective)
    if graphs and device.torch.type == "cuda":
        advance = recorded_on(device, step)
        length_of = lambda steps: architecture.max_length  # noqa: E731
    for epoch in range(completed + 1, spec.total_epochs + 1):
        sums: dict[str, Tensor] = {}
        crops = training_crops(
            videos,
            spec=spec,
            max_length=architecture.max_length,
            generator=generator,
            length_of=length_of,
        )
        batches = source(crops)
        pairs: Iterable[tuple[Batch, Mapping[str, Outputs] | None]]
        if isinstance(advance, RecordedStep):  # teachers are part of the recording
            pairs = ((batch, None) for batch in batches)
        else:
            pairs = outputs_ahead(step.teachers, batches, device, teacher_cache)
        for batch, answers in pairs:
            losses = advance(batch, answers)
            sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
        means = {name: float(value) / per_epoch for name, value in sums.items()}
        if after_epoch(epoch, means, step.average.module):
            break
        if checkpointer is not None:
            checkpointer.save(epoch, step, generator)
    return step.average.module


def batch_length(
    networks: Sequence[nn.Module], max_length: int, spec: TrainSpec, objective: DistillationObjective | None
) -> Callable[[int], int]:
    """Return the function from the steps of a batch's longest crop to its T.

    The length suffices for all networks that read the batch. It is always ``max_length`` where results depend
    on the amount of padding: with noise on the features, with terms that count padded positions, and for
    networks other than a `Detector`.
    """
    specs = [network.spec for network in networks if isinstance(network, Detector)]
    counted = objective is not None and objective.spec.count_padding
    if len(specs) < len(networks) or spec.input_noise or counted:
        return lambda steps: max_length
    return lambda steps: max(min(max_length, sufficient_length(s, steps)) for s in specs)


def initialise_from(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Copy those weights of the teacher that match in name and shape, and return their names."""
    source, own = teacher.state_dict(), student.state_dict()
    shared = [key for key, value in own.items() if key in source and source[key].shape == value.shape]
    student.load_state_dict({**own, **{key: source[key] for key in shared}})
    return shared
