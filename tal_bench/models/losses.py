"""Training losses of the detector on labels: sigmoid focal loss and 1-D distance-IoU loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.config import TrainSpec
from tal_bench.models.targets import Targets
from tal_bench.types import DetectorOutput

ALPHA, GAMMA = 0.25, 2.0
EPSILON = 1e-8
SMALLEST_LOSS = 0.01
"""Lower bound of the regression loss when its weight is balanced."""


@dataclass(frozen=True, slots=True)
class DetectionLoss:
    """Scalar losses of a batch and the updated normalizer.

    Attributes:
        total: classification + regression_weight x regression.
        classification: Focal loss summed over valid points, divided by the normalizer.
        regression: DIoU loss summed over positive points, or over positive pairs of point and class where
            every class has its own offsets, divided by the normalizer.
        normalizer: Running mean of the number of positive points, after this batch.
    """

    total: Tensor
    classification: Tensor
    regression: Tensor
    normalizer: Tensor


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the element-wise sigmoid focal loss with alpha 0.25 and gamma 2 (arXiv 1708.02002)."""
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_true = p * targets + (1 - p) * (1 - targets)
    alpha = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    return alpha * entropy * (1 - p_true) ** GAMMA


def overlap(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the IoU of segments around a common point, given by their offsets, [..., 2] -> [...]."""
    intersection = torch.minimum(predicted, target).sum(dim=-1)
    union = predicted.sum(dim=-1) + target.sum(dim=-1) - intersection
    return intersection / union.clamp(min=EPSILON)


def diou_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the 1-D distance-IoU loss of offsets to start and end (arXiv 1911.08287), [..., 2] -> [...]."""
    left, right = predicted.unbind(-1)
    left_t, right_t = target.unbind(-1)
    hull = torch.maximum(predicted, target).sum(dim=-1)
    distance = 0.5 * (right - left - right_t + left_t)
    return 1 - overlap(predicted, target) + (distance / hull.clamp(min=EPSILON)) ** 2


def detection_loss(
    output: DetectorOutput, targets: Targets, normalizer: Tensor, spec: TrainSpec
) -> DetectionLoss:
    """Compute the detection loss of a batch, without synchronising the device.

    Args:
        output: Output of the detector, with P points over all levels.
        targets: Targets of the same points.
        normalizer: Scalar running mean of the number of positive points before this batch.
        spec: Training settings. Used are the label smoothing, the regression weight, and the power of the IoU
            by which the classification loss of positives is multiplied (TriDet; gradients flow through this
            factor too).
    """
    logits = torch.cat(output.logits, dim=1).float()
    offsets = torch.cat(output.offsets, dim=1).float()
    valid = torch.cat(output.mask, dim=1)
    positive = (targets.classes.sum(dim=2) > 0) & valid
    normalizer = 0.9 * normalizer + 0.1 * positive.sum().clamp(min=1)
    smoothing = spec.label_smoothing
    wanted = targets.classes * (1 - smoothing) + smoothing / (logits.shape[2] + 1)
    # offsets of unlabelled points may be negative; a neutral value keeps their gradients finite
    target = torch.where(positive[:, :, None], targets.offsets, torch.ones_like(targets.offsets))
    labelled = (targets.classes > 0) & positive[:, :, None]
    per_class = offsets.ndim == 4
    if per_class:
        target = target[:, :, None]
    focal = focal_loss(logits, wanted) * valid[:, :, None]
    if spec.iou_power:
        iou = overlap(offsets, target).clamp(min=EPSILON)  # the gradient of its power is infinite at 0
        iou = iou if per_class else iou[:, :, None]
        focal = focal * torch.where(labelled, iou, torch.ones_like(iou)) ** spec.iou_power
    classification = focal.sum() / normalizer
    regression = (diou_loss(offsets, target) * (labelled if per_class else positive)).sum() / normalizer
    if spec.regression_weight == "balanced":
        weight = classification.detach() / regression.detach().clamp(min=SMALLEST_LOSS)
        total = classification + weight * regression
    else:
        total = classification + spec.regression_weight * regression
    return DetectionLoss(total, classification, regression, normalizer)
