"""Candidates for detections: the best points of every level, before NMS.

On the CPU numpy selects them, video by video. On a GPU they are selected there for a whole batch, and one
copy brings them to the host, for which the host waits only when it reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tal_bench.config import DecodeSpec
from tal_bench.training.decoding.host_copy import HostCopy
from tal_bench.types import DetectorOutput

Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Segments [N, 2] on the input grid, scores [N] and labels [N]; by descending score within a level."""
Pending = Callable[[], Candidates]
"""Function that returns the candidates of a video, once the device has selected them."""


def candidates(output: DetectorOutput, settings: DecodeSpec) -> Iterator[Candidates]:
    """Yield the candidates of each video of a batch."""
    return (wait() for wait in pending_candidates(output, settings))


def pending_candidates(output: DetectorOutput, settings: DecodeSpec) -> list[Pending]:
    """Begin to select the candidates of a batch, and return a function for each video that waits for them.

    Candidates of equal scores are in no particular order on a GPU.
    """
    videos = range(len(output.logits[0]))
    if output.logits[0].is_cuda:
        copy = HostCopy(select(output, settings))
        return [partial(_selected, copy, i) for i in videos]
    scores = [_scores(x, m).numpy() for x, m in zip(output.logits, output.mask, strict=True)]
    offsets = [x.float().numpy() for x in output.offsets]
    return [partial(_of_video, scores, offsets, strides(output), i, settings) for i in videos]


def strides(output: DetectorOutput) -> list[float]:
    """Return the stride of each level in steps of the input."""
    return [output.inputs.shape[2] / logits.shape[1] for logits in output.logits]


def _scores(logits: Tensor, mask: Tensor) -> Tensor:
    """Return probabilities [B, T_l, K], 0 where padded."""
    return logits.float().sigmoid() * mask[:, :, None]


def _threshold(settings: DecodeSpec) -> float:
    return settings.min_score if settings.candidate_score is None else settings.candidate_score


def _of_video(
    scores: Sequence[np.ndarray],
    offsets: Sequence[np.ndarray],
    strides: Sequence[float],
    video: int,
    settings: DecodeSpec,
) -> Candidates:
    """Return the candidates of a video of a batch on the CPU."""
    levels = [
        level_candidates(score[video], offset[video], stride, settings)
        for score, offset, stride in zip(scores, offsets, strides, strict=True)
    ]
    segments, score, label = (np.concatenate(part) for part in zip(*levels, strict=True))
    return segments, score, label


def level_candidates(
    scores: np.ndarray, offsets: np.ndarray, stride: float, settings: DecodeSpec
) -> Candidates:
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
    candidates = np.flatnonzero(flat > _threshold(settings))
    if len(candidates) > settings.topk:
        candidates = candidates[np.argpartition(-flat[candidates], settings.topk)[: settings.topk]]
    candidates = candidates[np.argsort(-flat[candidates], kind="stable")]
    point, label = np.divmod(candidates, scores.shape[1])
    reach = (offsets[point] if offsets.ndim == 2 else offsets[point, label]) * np.float32(stride)
    position = point.astype(np.float32) * np.float32(stride)
    segments = np.stack([position - reach[:, 0], position + reach[:, 1]], axis=1)
    kept = segments[:, 1] - segments[:, 0] > settings.min_length
    return segments[kept], flat[candidates][kept], label[kept].astype(np.int64)


def select(output: DetectorOutput, settings: DecodeSpec) -> Tensor:
    """Select the candidates of a batch on its device, by operations whose shapes do not depend on values.

    Returns:
        Start, end, score and class index [B, N, 4] float32. N is the sum over levels of the top-k, or of all
        points and classes if these are fewer. The score is -1 where there is no candidate.
    """
    levels = zip(output.logits, output.mask, output.offsets, strides(output), strict=True)
    return torch.cat(
        [_level(_scores(x, m), offsets.float(), stride, settings) for x, m, offsets, stride in levels], dim=1
    )


def _level(scores: Tensor, offsets: Tensor, stride: float, settings: DecodeSpec) -> Tensor:
    """Return the rows of `select` of one level, from probabilities [B, T_l, K]."""
    classes = scores.shape[2]
    flat = scores.flatten(1)
    best, index = flat.topk(min(settings.topk, flat.shape[1]), dim=1)
    point, label = index.div(classes, rounding_mode="floor"), index.remainder(classes)
    rows = point if offsets.ndim == 3 else index
    reach = stride * offsets.reshape(len(offsets), -1, 2).take_along_dim(rows[:, :, None], dim=1)
    position = stride * point.float()
    start, end = position - reach[:, :, 0], position + reach[:, :, 1]
    kept = (best > _threshold(settings)) & (end - start > settings.min_length)
    return torch.stack([start, end, best.where(kept, -1.0), label.float()], dim=2)


def _selected(copy: HostCopy, video: int) -> Candidates:
    """Return the candidates of a video of a batch that `select` has selected."""
    rows = copy.wait()[video].numpy()
    rows = rows[rows[:, 2] >= 0]
    return rows[:, :2], rows[:, 2], rows[:, 3].astype(np.int64)
