"""How a detector is trained, and how its output becomes segments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tal_bench.config.base import Count, Fraction, Positive, Spec


class TrainSpec(Spec):
    """How a detector is trained; defaults are ActionFormer's for THUMOS14.

    Attributes:
        epochs: cosine part of the schedule.
        warmup_epochs: linear part before it.
        batch_size: videos per step; a last incomplete batch is dropped.
        lr: peak learning rate of AdamW.
        weight_decay: not applied to biases, norms and learned scales.
        clip: largest gradient norm; none = unlimited.
        ema: decay of the weight average that is evaluated.
        crop: range of the share of a video that a crop keeps.
        truncation: a segment is kept by a crop that keeps at least this share of it.
        radius: centre sampling, in strides of the level; none = anywhere inside the segment.
        label_smoothing: s of y(1-s) + s/(K+1).
        regression_weight: of the DIoU loss; `balanced` = as large as the classification loss.
        iou_power: p of the factor IoU^p on the classification loss of positives (TriDet); 0 = none.
        input_noise: standard deviation of noise on the student's input (TriDet).
        loss_normalizer: start of the running mean of positives.
        validate_every: epochs between two evaluations on validation.
    """

    epochs: Count = 30
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    batch_size: Count = 2
    lr: Positive = 1e-4
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    clip: Positive | None = 1.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    crop: tuple[Fraction, Fraction] = (0.9, 1.0)
    truncation: Fraction = 0.5
    radius: Positive | None = 1.5
    label_smoothing: Fraction = 0.0
    regression_weight: Positive | Literal["balanced"] = 1.0
    iou_power: Annotated[float, Field(ge=0.0)] = 0.0
    input_noise: Annotated[float, Field(ge=0.0)] = 0.0
    loss_normalizer: Positive = 100.0
    validate_every: Count = 5

    @property
    def total_epochs(self) -> int:
        """Warm-up and cosine epochs together."""
        return self.warmup_epochs + self.epochs


class DecodeSpec(Spec):
    """From logits and offsets to segments in seconds; defaults are ActionFormer's for THUMOS14.

    Attributes:
        min_score: segments whose score falls below it are dropped in NMS.
        candidate_score: candidates below it are dropped before NMS; none = min_score.
        topk: candidates kept per level.
        min_length: shortest segment, in grid steps.
        nms_sigma: of gaussian soft-NMS.
        nms_iou: overlap threshold of linear and hard NMS.
        max_detections: per class and then per video.
        class_agnostic: one NMS over all classes, with segment voting.
        voting: tIoU of the neighbours averaged into a segment; 0 = none.
        voting_weight: of a neighbour: its score x tIoU, or its score alone (TriDet).
        nms: which suppression.
    """

    min_score: Fraction = 0.001
    candidate_score: Fraction | None = None
    topk: Count = 2000
    min_length: Annotated[float, Field(ge=0.0)] = 0.05
    nms_sigma: Positive = 0.5
    nms_iou: Fraction = 0.1
    max_detections: Count = 200
    class_agnostic: bool = False
    voting: Fraction = 0.7
    voting_weight: Literal["score-iou", "score"] = "score-iou"
    nms: Literal["gaussian", "linear", "hard", "none"] = "gaussian"
