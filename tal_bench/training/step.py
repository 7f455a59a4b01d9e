"""A training step: losses, gradients, optimizer and weight average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from tal_bench.config import DetectorSpec, TrainSpec
from tal_bench.distill.objective import DistillationObjective
from tal_bench.models.losses import detection_loss
from tal_bench.models.targets import Points, assign, point_labels, pyramid_points
from tal_bench.training.device import Device
from tal_bench.training.ema import Ema
from tal_bench.training.flat_parameters import FlatOptimizer
from tal_bench.training.schedule import build_optimizer, learning_rate
from tal_bench.training.teachers import Teachers
from tal_bench.types import Batch, Outputs


class TrainingStep:
    """Training step: losses, gradients, clipping, optimizer, weight average.

    Gradients are kept until the next step.

    Args:
        student: Student, whose weights are trained in place.
        architecture: Architecture of the student.
        spec: Training settings.
        steps_per_epoch: Number of steps per epoch.
        device: Device and precision of the training.
        teachers: Frozen teachers by role; they compute in the precision given by the spec of the objective.
        objective: Distillation objective; None means labels only.

    Attributes:
        average: Moving average of the student's weights.
        optimizer: Optimizer, with the learning rate of the last step.
        normalizer: Running mean of the number of positive points.
        count: Number of completed steps.
    """

    def __init__(
        self,
        student: nn.Module,
        architecture: DetectorSpec,
        spec: TrainSpec,
        *,
        steps_per_epoch: int,
        device: Device,
        teachers: Mapping[str, nn.Module] | None = None,
        objective: DistillationObjective | None = None,
    ) -> None:
        self.student = student.to(device.torch).train()
        self.objective = objective
        precision = "student" if objective is None else objective.spec.precision
        teacher_device = device if precision == "student" else device.with_precision(precision)
        self.teachers = Teachers(teachers or {}, teacher_device, objective.keep if objective else ())
        learners = [student] if objective is None else [student, objective.to(device.torch)]
        self.optimizer = build_optimizer(learners, spec)
        self._flat = FlatOptimizer(self.optimizer)
        self.average = Ema(student, spec.ema)
        self.normalizer = torch.tensor(spec.loss_normalizer, device=device.torch)
        self.count = 0
        self._spec, self._device, self._per_epoch = spec, device, steps_per_epoch
        self._architecture = architecture
        self._points: dict[int, Points] = {}

    def __call__(self, batch: Batch, answers: Mapping[str, Outputs] | None = None) -> dict[str, Tensor]:
        """Train on a batch and return its losses by name, detached, including `total`.

        Args:
            batch: Batch.
            answers: Outputs of the teachers for the batch by role; None means that they are computed here.
        """
        self.set_rate()
        batch = self._device.move(batch)
        losses = self.update(batch, self.teachers(batch) if answers is None else answers)
        self.count += 1
        return losses

    def set_rate(self) -> None:
        """Set the learning rate of the next step; a rate that is a tensor is changed in place."""
        rate = learning_rate(self.count, steps_per_epoch=self._per_epoch, spec=self._spec)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["lr_scale"])
            else:
                group["lr"] = rate * group["lr_scale"]

    def update(self, batch: Batch, answers: Mapping[str, Outputs]) -> dict[str, Tensor]:
        """Train on a batch on the device with the rate that is set, without synchronising the device.

        Operations and their shapes depend only on the shapes of the batch, and all state is changed in place.

        Args:
            batch: Batch on the device.
            answers: Outputs of the teachers for the batch by role.

        Returns:
            Losses by name, detached, including `total`.
        """
        points = self._points_of(batch.mask.shape[1])
        with self._device.arithmetic():
            losses, normalizer = _losses(
                self.student,
                batch,
                points,
                self.normalizer,
                self._spec,
                answers,
                self.objective,
                self._device,
            )
            self.normalizer.copy_(normalizer)
            self._flat.clear_gradients()
            losses["total"].backward()
            if self._spec.clip is not None:
                nn.utils.clip_grad_norm_(self._flat.parameters, self._spec.clip)
            self.optimizer.step()
            self.average.update()
        return {name: value.detach() for name, value in losses.items()}

    def _points_of(self, length: int) -> Points:
        """Return the points of the pyramid of inputs of a length T."""
        if length not in self._points:
            lengths = [length // stride for stride in self._architecture.level_strides]
            self._points[length] = pyramid_points(self._architecture, lengths, self._device.torch)
        return self._points[length]


def _losses(
    student: nn.Module,
    batch: Batch,
    points: Points,
    normalizer: Tensor,
    spec: TrainSpec,
    answers: Mapping[str, Outputs],
    objective: DistillationObjective | None,
    device: Device,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses of a batch by name, including `total`, and the updated normalizer."""
    kept = (objective.keep,) if objective is not None and objective.keep else ()
    with device.autocast():
        output = student(_with_noise(batch, spec.input_noise) if spec.input_noise else batch, *kept)
    classes = output.logits[0].shape[2]
    targets = assign(points, batch.segments, batch.labels, classes, spec.radius)
    hard = detection_loss(output, targets, normalizer, spec)
    parts = {"classification": hard.classification, "regression": hard.regression, "labels": hard.total}
    if objective is None:
        return {"total": hard.total, **parts}, hard.normalizer
    if objective.reads_labels:
        output = replace(output, labels=point_labels(targets, output.mask, batch))
    soft = objective(output, answers)
    weight = objective.spec.soft_weight
    total = (1 - weight) * hard.total + weight * soft.total
    return {"total": total, **parts, **soft.parts}, hard.normalizer


def _with_noise(batch: Batch, deviation: float) -> Batch:
    """Return the batch with Gaussian noise on its features, padded steps included (TriDet)."""
    features = {name: x + deviation * torch.randn_like(x) for name, x in batch.features.items()}
    return replace(batch, features=features)
