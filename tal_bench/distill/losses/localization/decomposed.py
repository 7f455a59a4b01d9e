"""Decomposed cross-modal distillation: the losses of the two branches.

Lee et al., Decomposed Cross-modal Distillation for RGB-based Temporal Action Detection, CVPR 2023, arXiv
2303.17285. The appearance branch learns from labels, the motion branch from a motion teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.localization.bckd import bckd_classification, bckd_localization
from tal_bench.distill.losses.localization.crosskd import region_weight
from tal_bench.distill.losses.masking import valid_rows
from tal_bench.models.losses import diou_loss, focal_loss


def appearance_loss(
    logits: Tensor, offsets: Tensor, classes: Tensor, targets: Tensor, mask: Tensor, positives: Tensor
) -> Tensor:
    """Return the detection loss on labels: focal loss and 1-D DIoU, summed and divided by the positives.

    Args:
        logits: [B, P, K].
        offsets: [B, P, 2], distances to start and end, >= 0.
        classes: [B, P, K], 1 where the class is assigned to the point, else 0.
        targets: [B, P, 2], distances of the assigned segment; arbitrary where there is none.
        mask: [B, P] bool.
        positives: Number of positive points, at least 1.
    """
    positive = mask & (classes.sum(dim=2) > 0)
    wanted = torch.where(positive[..., None], targets, torch.ones_like(targets))
    focal = focal_loss(valid_rows(logits, mask), valid_rows(classes, mask)).sum(dim=2)
    boundary = diou_loss(valid_rows(offsets, positive), wanted)
    return (focal * mask + boundary * positive).sum() / positives


def motion_loss(
    logits: Tensor,
    offsets: Tensor,
    teacher_logits: Tensor,
    teacher_offsets: Tensor,
    mask: Tensor,
    positives: Tensor,
) -> Tensor:
    """Return the detection loss with the teacher's predictions in the place of labels (assumed form).

    Cross entropy to the teacher's scores, weighted by the difference of the scores, plus 1 - GIoU to its
    segments, weighted by its best score; both summed and divided by the positives.

    Args:
        logits: [B, P, K].
        offsets: [B, P, 2], distances to start and end, >= 0.
        teacher_logits: [B, P, K], detached.
        teacher_offsets: [B, P, 2], detached.
        mask: [B, P] bool.
        positives: Number of positive points, at least 1.
    """
    every = torch.ones_like(mask, dtype=torch.float32)
    weight = region_weight(teacher_logits, every, mask)
    student, teacher = (torch.stack([-x[..., 0], x[..., 1]], dim=-1) for x in (offsets, teacher_offsets))
    return bckd_classification(logits, teacher_logits, every, mask, positives) + bckd_localization(
        student, teacher, weight, mask, positives
    )
