"""Inference: from a trained detector to segments in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from tal_bench.config import DecodeSpec, DetectorSpec
from tal_bench.data.batches import evaluation_batches
from tal_bench.data.dataset import Video
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.training.device import Device
from tal_bench.training.nms import NmsSettings, batched_nms
from tal_bench.types import DetectorOutput, Segments, VideoMeta


@torch.no_grad()
def predict(
    model: nn.Module,
    architecture: DetectorSpec,
    videos: Sequence[Video],
    settings: DecodeSpec,
    device: Device,
    *,
    batch_size: int = 8,
) -> Iterator[Segments]:
    """Detect in whole videos and yield the segments of each."""
    model = device.prepare_for_inference(model)
    for batch in evaluation_batches(
        videos,
        batch_size=batch_size,
        max_length=architecture.max_length,
        divisor=pyramid_divisor(architecture),
        modalities=architecture.reads,
    ):
        with device.autocast():
            output = model(device.move(batch))
        yield from decode(output, batch.videos, settings)


def decode(output: DetectorOutput, videos: Sequence[VideoMeta], settings: DecodeSpec) -> Iterator[Segments]:
    """Yield the detections of each video of a batch: candidates of all levels, after NMS, in seconds."""
    nms = nms_settings(settings)
    for video, raw in zip(videos, candidates(output, settings), strict=True):
        segments, score, label = raw if settings.nms == "none" else batched_nms(*raw, nms)
        yield Segments(video.id, grid_to_seconds(segments, video), score, label)


def candidates(
    output: DetectorOutput, settings: DecodeSpec
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield segments [N, 2] on the input grid, scores [N] and labels [N] before NMS, per video of a batch."""
    scores = [
        (x.float().sigmoid() * m[:, :, None]).cpu().numpy()
        for x, m in zip(output.logits, output.mask, strict=True)
    ]
    offsets = [x.float().cpu().numpy() for x in output.offsets]
    strides = [output.inputs.shape[2] / score.shape[1] for score in scores]
    for i in range(len(scores[0])):
        levels = [
            level_candidates(score[i], offset[i], stride, settings)
            for score, offset, stride in zip(scores, offsets, strides, strict=True)
        ]
        segments, score, label = (np.concatenate(part) for part in zip(*levels, strict=True))
        yield segments, score, label


def level_candidates(
    scores: np.ndarray, offsets: np.ndarray, stride: float, settings: DecodeSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the best segments of one level on the input grid.

    Args:
        scores: Probabilities [T_l, K], 0 where padded.
        offsets: Offsets in strides [T_l, 2], or [T_l, K, 2] if every class has its own.
        stride: Stride of the level.
        settings: Score threshold, top-k and minimal length.

    Returns:
        Segments [N, 2], scores [N] and labels [N] by descending score.
    """
    flat = scores.ravel()
    threshold = settings.min_score if settings.candidate_score is None else settings.candidate_score
    candidates = np.flatnonzero(flat > threshold)
    if len(candidates) > settings.topk:
        candidates = candidates[np.argpartition(-flat[candidates], settings.topk)[: settings.topk]]
    candidates = candidates[np.argsort(-flat[candidates], kind="stable")]
    point, label = np.divmod(candidates, scores.shape[1])
    reach = (offsets[point] if offsets.ndim == 2 else offsets[point, label]) * np.float32(stride)
    position = point.astype(np.float32) * np.float32(stride)
    segments = np.stack([position - reach[:, 0], position + reach[:, 1]], axis=1)
    kept = segments[:, 1] - segments[:, 0] > settings.min_length
    return segments[kept], flat[candidates][kept], label[kept].astype(np.int64)


def grid_to_seconds(segments: np.ndarray, video: VideoMeta) -> np.ndarray:
    """Convert segments on the grid to seconds within the video, [N, 2] float32."""
    grid = segments.astype(np.float64) + video.first_step
    seconds = (grid * video.stride + video.offset + 0.5 * video.window) / video.fps
    return seconds.clip(0.0, video.duration).astype(np.float32)


def nms_settings(settings: DecodeSpec) -> NmsSettings:
    """Return the settings of the suppression that belong to the post-processing settings."""
    return NmsSettings(
        mode=settings.nms,
        voting_weight=settings.voting_weight,
        sigma=settings.nms_sigma,
        iou_threshold=settings.nms_iou,
        min_score=settings.min_score,
        max_per_class=settings.max_detections,
        max_total=settings.max_detections,
        multiclass=not settings.class_agnostic,
        voting_threshold=settings.voting if settings.class_agnostic else 0.0,
    )
