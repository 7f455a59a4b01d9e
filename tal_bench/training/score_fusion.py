"""Names for the segments of a one-class detector, from class scores of the whole video."""

from __future__ import annotations

import numpy as np

from tal_bench.types import Segments


def named_by(found: Segments, scores: np.ndarray, top: int) -> Segments:
    """Give every segment each of its video's best classes (as in ActionFormer).

    A segment's score becomes √(its score · the score of the class).

    Args:
        found: of one video; labels are not looked at.
        scores: of its classes [K].
        top: classes that the video may have.

    Returns:
        min(top, K) copies of every segment, best first.
    """
    best = np.argsort(-scores, kind="stable")[:top]
    fused = np.sqrt(scores[best][:, None] * found.scores[None, :].astype(np.float64)).ravel()
    order = np.argsort(-fused, kind="stable")
    return Segments(
        found.video,
        np.tile(found.segments, (len(best), 1))[order],
        fused[order].astype(np.float32),
        np.repeat(best, len(found.scores))[order].astype(np.int64),
    )
