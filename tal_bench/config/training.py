"""Training settings of a detector, and settings that turn its output into segments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tal_bench.config.base import Count, Fraction, Positive, Spec


class TrainSpec(Spec):
    """Training settings of a detector; defaults are ActionFormer's for THUMOS14.

    Attributes:
        epochs: Number of epochs with cosine decay of the learning rate, after the warm-up.
        warmup_epochs: Number of epochs with linear warm-up of the learning rate.
        batch_size: Videos per step; the last incomplete batch of an epoch is dropped.
        lr: Peak learning rate of AdamW.
        lr_width: Number of input channels above which a layer's learning rate is `lr` x lr_width / channels;
            null = every layer has the same rate. One step of AdamW changes the output of a layer in
            proportion to rate x channels, so wide features need a lower rate (Yang et al., Tensor Programs V,
            arXiv 2203.03466).
        weight_decay: Weight decay of AdamW; not applied to biases, norms and learned scales.
        clip: Maximum gradient norm; null = no clipping.
        ema: Decay of the exponential moving average of the weights, which is evaluated.
        crop: Minimum and maximum share of a video that a random crop keeps.
        truncation: Minimum share of a segment that must lie inside a crop for the segment to be kept.
        radius: Radius of centre sampling, in strides of the pyramid level; null = all positions inside the
            segment are positive.
        label_smoothing: s of the smoothed target y(1-s) + s/(K+1).
        regression_weight: Weight of the DIoU loss; `balanced` = scaled to the classification loss.
        iou_power: p of the factor IoU^p on the classification loss of positives (TriDet); 0 = no factor.
        input_noise: Standard deviation of the noise added to the student's input (TriDet).
        loss_normalizer: Initial value of the running mean of the number of positives.
        validate_every: Number of epochs between two evaluations on the validation part.
    """

    epochs: Count = 30
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    batch_size: Count = 2
    lr: Positive = 1e-4
    lr_width: Count | None = None
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
        """Number of warm-up and cosine epochs together."""
        return self.warmup_epochs + self.epochs


class DecodeSpec(Spec):
    """Conversion of logits and offsets to segments in seconds; defaults are ActionFormer's for THUMOS14.

    Attributes:
        min_score: Segments whose score falls below this value during NMS are dropped.
        candidate_score: Candidates with a lower score are dropped before NMS; null = `min_score`.
        topk: Number of candidates kept per pyramid level.
        min_length: Length of the shortest segment kept, in grid steps.
        nms_sigma: Sigma of Gaussian soft-NMS.
        nms_iou: tIoU threshold of linear and hard NMS.
        max_detections: Number of detections kept per class, and then per video.
        class_agnostic: Whether one NMS runs over all classes together, with segment voting.
        voting: tIoU threshold of segment voting: neighbours above it are averaged into a segment; 0 = no
            voting.
        voting_weight: Weight of a neighbour in segment voting: `score-iou` = score x tIoU, `score` = its
            score alone (TriDet).
        nms: Suppression method.
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
