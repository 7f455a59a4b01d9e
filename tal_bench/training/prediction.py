"""Inference: from a trained detector to segments in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn

from tal_bench.config import DecodeSpec, DetectorSpec
from tal_bench.data.batches import evaluation_crops
from tal_bench.data.dataset import Video
from tal_bench.data.prefetch import mapped_in_threads
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.system.cpu_count import usable_cores
from tal_bench.training.batch_sources.choice import prediction_source
from tal_bench.training.decoding.candidates import Pending, pending_candidates
from tal_bench.training.decoding.nms import NmsSettings, batched_nms
from tal_bench.training.device import Device
from tal_bench.types import DetectorOutput, Segments, VideoMeta

NMS_THREADS = 4
"""Largest number of threads that suppress candidates while a GPU computes."""


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
    """Detect in whole videos and yield the segments of each.

    On a GPU, threads suppress the candidates of earlier videos while it computes those of the next batch.
    """
    model = device.prepare_for_inference(model)
    crops = evaluation_crops(
        videos,
        batch_size=batch_size,
        max_length=architecture.max_length,
        divisor=pyramid_divisor(architecture),
    )

    def found() -> Iterator[tuple[VideoMeta, Pending]]:
        for batch in prediction_source(architecture.reads, device)(crops):
            with device.autocast():
                output = model(batch)
            yield from zip(batch.videos, pending_candidates(output, settings), strict=True)

    finish = partial(_finish, settings)
    if device.torch.type == "cpu":  # a worker on the CPU has one core
        yield from map(finish, found())
        return
    threads = min(NMS_THREADS, usable_cores())
    yield from mapped_in_threads(finish, found(), threads=threads, ahead=2 * batch_size)


def decode(output: DetectorOutput, videos: Sequence[VideoMeta], settings: DecodeSpec) -> Iterator[Segments]:
    """Yield the detections of each video of a batch: candidates of all levels, after NMS, in seconds."""
    return map(partial(_finish, settings), zip(videos, pending_candidates(output, settings), strict=True))


def _finish(settings: DecodeSpec, found: tuple[VideoMeta, Pending]) -> Segments:
    """Wait for the candidates of a video, and return its detections."""
    video, wait = found
    raw = wait()
    segments, score, label = raw if settings.nms == "none" else batched_nms(*raw, nms_settings(settings))
    return Segments(video.id, grid_to_seconds(segments, video), score, label)


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
