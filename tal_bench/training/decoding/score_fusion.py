"""Fusion of class-agnostic segments with video-level class scores."""

from __future__ import annotations

import numpy as np

from tal_bench.types import Segments


def fuse_video_scores(detections: Segments, scores: np.ndarray, top: int) -> Segments:
    """Assign each of the best classes of a video to each of its segments (as in ActionFormer).

    The score of a segment becomes √(segment score · class score).

    Args:
        detections: Segments of one video, whose labels are ignored.
        scores: Scores [K] of the classes of the video.
        top: Number of best classes to use.

    Returns:
        min(top, K) copies of every segment by descending score.
    """
    best = np.argsort(-scores, kind="stable")[:top]
    fused = np.sqrt(scores[best][:, None] * detections.scores[None, :].astype(np.float64)).ravel()
    order = np.argsort(-fused, kind="stable")
    return Segments(
        detections.video,
        np.tile(detections.segments, (len(best), 1))[order],
        fused[order].astype(np.float32),
        np.repeat(best, len(detections.scores))[order].astype(np.int64),
    )
