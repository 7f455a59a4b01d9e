"""Terms `crosskd-classification` and `crosskd-localization`: student features through the teacher's head."""

from __future__ import annotations

from torch import Tensor

from tal_bench.distill.losses.localization.bckd import bckd_classification, segment_giou
from tal_bench.distill.losses.localization.crosskd import aligned, crosskd_localization, region_weight
from tal_bench.distill.losses.masking import valid_rows
from tal_bench.distill.terms.predictions.bckd import segments_around_points
from tal_bench.distill.terms.predictions.labels import joined
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.terms.weights import BALANCED, around
from tal_bench.types import Outputs, StudentOutputs

CLASSIFIER, REGRESSOR = "classifier/1", "regressor/1"
"""Where student features enter the teacher's head: before the activation of its first hidden layer."""
SOURCE = "formula of jbwang1997/CrossKD 87e156a, mmdet/models/detectors/crosskd_gfl.py, CC BY-NC 4.0"
PAPER = "Wang et al., CrossKD, CVPR 2024"


def crosskd_classification_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the loss of `bckd-classification` for the logits of the teacher's head on student features.

    Summed over valid positions of all levels and classes, divided by the number of positives.
    """
    mask = joined(student.mask)
    logits = joined(_reused(CLASSIFIER, student, teacher))
    return bckd_classification(logits, joined(teacher.logits), mask.float(), mask, student.labels.count)


def crosskd_localization_term(student: StudentOutputs, teacher: Outputs, temperature: float) -> Tensor:
    """Return the error of the boundaries that the teacher's head predicts from student features.

    A mean over valid positions of all levels, weighted by the teacher's best score: 1 - GIoU of offsets, or
    KL of bins.
    """
    mask = joined(student.mask)
    weight = region_weight(joined(teacher.logits), mask.float(), mask)
    own, reused = (
        joined(levels)
        for levels in (
            teacher.continue_head(REGRESSOR, list(teacher.features[REGRESSOR])),
            _reused(REGRESSOR, student, teacher),
        )
    )
    if own.ndim == 4:  # trident heads
        return crosskd_localization(reused, own, weight, mask)
    s, t = (segments_around_points(valid_rows(x, mask)) for x in (reused, own.detach()))
    return (weight * (1 - segment_giou(s, t))).sum() / weight.sum().clamp(min=1e-12)


def _reused(name: str, student: StudentOutputs, teacher: Outputs) -> list[Tensor]:
    """Return what the teacher's head predicts per level from student features, aligned level by level."""
    levels = zip(student.features[name], teacher.features[name], student.mask, strict=True)
    return teacher.continue_head(name, [aligned(s, t, m) for s, t, m in levels])


terms.add(
    "crosskd-classification",
    Term(
        "crosskd-classification",
        crosskd_classification_term,
        search=around(1.0),
        weight=1.0,
        summary="scores of the teacher's head on student features",
        formula="1 / positives * sum over valid positions and classes of |p_t - p| * BCE(p, p_t), p the "
        "sigmoid of "
        "teacher_head(features_student standardised to the teacher's)",
        paper=PAPER,
        reads={CLASSIFIER: "project", "logits": "equal", "labels": "any"},
        normalizer="positives",
        source=SOURCE,
    ),
)
terms.add(
    "crosskd-localization",
    Term(
        "crosskd-localization",
        crosskd_localization_term,
        search=around(BALANCED["crosskd-localization"]),
        weight=BALANCED["crosskd-localization"],
        summary="boundaries of the teacher's head on student features",
        formula="mean over valid positions, weighted by max p_t, of 1 - "
        "GIoU(teacher_head(features_student standardised "
        "to the teacher's), offsets_teacher); KL of bins for trident heads",
        paper=PAPER,
        reads={REGRESSOR: "project", "logits": "teacher"},
        normalizer="sum of the teacher's best scores",
        source=SOURCE,
        differences="1 - GIoU where the teacher predicts offsets and no bins (published weight 4 of the "
        "KL of bins)",
    ),
)
