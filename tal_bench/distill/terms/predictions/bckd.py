"""Terms `bckd-classification` and `bckd-localization`."""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.distill.losses.localization.bckd import (
    bckd_classification,
    bckd_localization,
    localization_weight,
)
from tal_bench.distill.terms.offsets import class_average
from tal_bench.distill.terms.predictions.labels import joined
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import around
from tal_bench.types import Outputs, StudentOutputs

SOURCE = "TinyTigerPan/BCKD 121c9aa, mmdet/models/losses/kd_loss.py, Apache-2.0"
PAPER = "Yang et al., BCKD, ICCV 2023"


def bckd_classification_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the weighted binary cross entropy to the teacher's scores.

    Summed over valid positions of all levels and classes, divided by the number of positives.
    """
    mask = joined(student.mask)
    count = student.labels.count
    return bckd_classification(joined(student.logits), joined(teacher.logits), mask.float(), mask, count)


def bckd_localization_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return 1 - GIoU of the predicted segments, weighted by the difference of the scores.

    Summed over valid positions of all levels, divided by the number of positives.
    """
    mask = joined(student.mask)
    weight = localization_weight(joined(student.logits), joined(teacher.logits), mask.float(), mask)
    s, t = (segments_around_points(joined(class_average(x))) for x in (student, teacher))
    return bckd_localization(s, t, weight, mask, student.labels.count)


def segments_around_points(offsets: Tensor) -> Tensor:
    """Return segments [B, T, 2] relative to their points, in units of the stride, for offsets [B, T, 2]."""
    return torch.stack([-offsets[..., 0], offsets[..., 1]], dim=-1)


terms.add(
    "bckd-classification",
    Term(
        "bckd-classification",
        bckd_classification_term,
        search=around(1.0),
        weight=1.0,
        summary="sigmoid cross entropy, weighted by the difference of the scores",
        formula="1 / positives * sum over valid positions and classes of |p_t - p_s| * BCE(p_s, p_t), p "
        "sigmoid",
        paper=PAPER,
        reads={"logits": "equal", "labels": "any"},
        normalizer="positives",
        source=SOURCE,
    ),
)
terms.add(
    "bckd-localization",
    Term(
        "bckd-localization",
        bckd_localization_term,
        search=around(4.0),
        weight=4.0,
        summary="GIoU of the segments, weighted by the difference of the scores",
        formula="1 / positives * sum over valid positions of max over classes |p_t - p_s| * (1 - GIoU)",
        paper=PAPER,
        reads={"logits": "equal", "offsets": "any", "labels": "any"},
        normalizer="positives",
        source=SOURCE,
        differences="segments of offsets in place of bins; offsets per class are averaged by the class "
        "scores",
    ),
)
