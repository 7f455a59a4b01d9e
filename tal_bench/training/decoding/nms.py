"""Non-maximum suppression of temporal segments: soft (gaussian, linear), hard, and segment voting.

Soft-NMS: Bodla et al., ICCV 2017. The kernels are plain functions that numba compiles at their first use,
with one signature each (`system.compiled`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import InputError
from tal_bench.system.compiled import compiled

Mode = Literal["gaussian", "linear", "vanilla", "hard", "none"]
VotingWeight = Literal["score-iou", "score"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class NmsSettings:
    """Settings of `batched_nms`; the defaults are those of THUMOS14.

    Attributes:
        mode: `gaussian` and `linear` lower the scores of overlapping segments, `vanilla` sets them to 0,
            `hard` removes the segments, `none` only sorts and truncates.
        sigma: σ of the Gaussian decay exp(−tIoU² / σ).
        iou_threshold: tIoU from which `linear` and `vanilla` lower scores and `hard` removes segments.
        min_score: Soft modes drop segments whose decayed score is below; `hard` first drops scores ≤ it,
            unless it is 0.
        max_per_class: Maximal number of segments per class, if multiclass.
        max_total: Maximal number of segments in all.
        multiclass: Whether to suppress within each class only, or across all classes.
        voting_threshold: If > 0, each kept segment is replaced by the weighted mean of the candidates with at
            least this tIoU to it. Only applied if not multiclass.
        voting_weight: Weight of a candidate in voting: score × tIoU (ActionFormer) or score (TriDet).

    Raises:
        InputError: If a value is out of range.
    """

    mode: Mode = "gaussian"
    sigma: float = 0.5
    iou_threshold: float = 0.1
    min_score: float = 0.001
    max_per_class: int = 200
    max_total: int = 200
    multiclass: bool = True
    voting_threshold: float = 0.0
    voting_weight: VotingWeight = "score-iou"

    def __post_init__(self) -> None:
        for name, kind in (("mode", Mode), ("voting_weight", VotingWeight)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"{getattr(self, name)!r}",
                    where=f"nms.{name}",
                    hint=f"choose {', '.join(get_args(kind))}",
                )
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise InputError(f"{self.sigma}", where="nms.sigma", hint="give a number > 0")
        for name in ("iou_threshold", "min_score", "voting_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{getattr(self, name)}", where=f"nms.{name}", hint="give a number in [0, 1]"
                )
        for name in ("max_per_class", "max_total"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{getattr(self, name)}", where=f"nms.{name}", hint="give a whole number ≥ 1"
                )


def batched_nms(
    segments: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], settings: NmsSettings
) -> tuple[Floats, Floats, Ints]:
    """Apply non-maximum suppression to the segments of one video.

    Args:
        segments: Starts and ends `[N, 2]` in any unit of time.
        scores: Scores `[N]`.
        labels: Class indices `[N]`.
        settings: Settings of the suppression.

    Returns:
        Segments `[M, 2]`, scores `[M]` (decayed in the soft modes) and labels `[M]` by descending score.
        Equal scores are ordered by class and then by the order of selection.

    Raises:
        InputError: If the shapes do not agree or a number is not finite.
    """
    segments = np.ascontiguousarray(segments, dtype=np.float32)
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    _check(segments, scores, labels)
    if settings.multiclass:
        order = np.argsort(labels, kind="stable")
        starts = np.unique(labels[order], return_index=True)[1]
    else:
        order = np.arange(len(labels))
        starts = np.zeros(min(len(labels), 1), dtype=np.int64)
    edges = np.append(starts, len(labels)).astype(np.int64)
    limit = settings.max_per_class if settings.multiclass else settings.max_total
    kept, kept_scores = suppress(segments[order], scores[order], edges, limit, settings)

    best = np.argsort(-kept_scores, kind="stable")[: settings.max_total]
    rows = order[kept[best]]
    result = segments[rows]
    if settings.voting_threshold > 0 and not settings.multiclass:
        result = vote(result, segments, scores, settings.voting_threshold, settings.voting_weight)
    return result, kept_scores[best], labels[rows]


def suppress(
    segments: Floats, scores: Floats, edges: Ints, limit: int, settings: NmsSettings
) -> tuple[Ints, Floats]:
    """Suppress within each group of consecutive rows.

    Args:
        segments: Starts and ends `[N, 2]`.
        scores: Scores `[N]`.
        edges: Boundaries `[G + 1]` of the groups; group g is rows `edges[g]` to `edges[g + 1]`.
        limit: Maximal number of segments per group.
        settings: Settings, of which mode, sigma, iou_threshold and min_score are used.

    Returns:
        Indices and scores `[M]` of the kept rows, group by group, in the order of selection.
    """
    if settings.mode in _DECAY:
        soft = _compiled("soft")
        kept, decayed = soft(
            segments,
            scores,
            edges,
            limit,
            _DECAY[settings.mode],
            np.float32(settings.sigma),
            np.float32(settings.iou_threshold),
            np.float32(settings.min_score),
        )
        return kept, decayed
    # rows of a group by descending score; the sort is stable
    group = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    order = np.lexsort((-scores, group))
    if settings.mode == "none":
        rank = np.arange(len(order)) - edges[group]
        kept = order[rank < limit]
    else:
        if settings.min_score > 0:
            order = order[scores[order] > np.float32(settings.min_score)]
            edges = np.searchsorted(group[order], np.arange(len(edges)))
        kept = order[_compiled("hard")(segments[order], edges, limit, np.float32(settings.iou_threshold))]
    return kept, scores[kept]


def vote(
    kept: Floats, candidates: Floats, scores: Floats, threshold: float, weight: VotingWeight = "score-iou"
) -> Floats:
    """Replace each kept segment by the weighted mean of the candidates that overlap it.

    Segments without a candidate of positive weight, such as those of length 0, are unchanged.

    Args:
        kept: Kept segments `[M, 2]`.
        candidates: All segments before suppression `[N, 2]`.
        scores: Scores of the candidates before decay `[N]`.
        threshold: Minimal tIoU of a candidate.
        weight: Weight of a candidate, as `NmsSettings.voting_weight`.
    """
    by_tiou = weight == "score-iou"
    kept = np.ascontiguousarray(kept, dtype=np.float32)
    candidates = np.ascontiguousarray(candidates, dtype=np.float32)
    voted: Floats = _compiled("vote")(
        kept.copy(), candidates.copy(), np.array(scores, dtype=np.float32), np.float32(threshold), by_tiou
    )
    return voted


def _check(segments: Floats, scores: Floats, labels: Ints) -> None:
    shapes = (segments.shape, scores.shape, labels.shape)
    if segments.ndim != 2 or segments.shape[1] != 2 or shapes[1:] != ((len(segments),),) * 2:
        raise InputError(
            f"segments, scores, labels of shapes {shapes}", where="nms", hint="need [N, 2], [N], [N]"
        )
    if not (np.isfinite(segments).all() and np.isfinite(scores).all()):
        raise InputError("a segment or score is not finite", where="nms")


_DECAY = {"vanilla": 0, "linear": 1, "gaussian": 2}


def _soft(  # type: ignore[no-untyped-def]
    segments, scores, edges, limit, decay, sigma, iou_threshold, min_score
):
    """Soft-NMS by selection: select the best segment, decay the others, drop those below `min_score`.

    The selected segment itself is never dropped. A dropped segment is replaced by the last one, which
    determines the order among equal scores. Everything is computed in float32, in which the thresholds are
    compared. Lengths are increased by 1e-6, so that two empty segments have a tIoU of 0.
    """
    epsilon, zero, one = np.float32(1e-6), np.float32(0), np.float32(1)
    start, end, score = segments[:, 0].copy(), segments[:, 1].copy(), scores.copy()
    length = end - start + epsilon
    row = np.arange(len(scores))
    kept, kept_score, total = np.empty(len(scores), np.int64), np.empty(len(scores), np.float32), 0
    for group in range(len(edges) - 1):
        low, high = edges[group], edges[group + 1]
        best = low
        for j in range(low + 1, high):
            if score[best] < score[j]:
                best = j
        i = low
        while i < high and i - low < limit:
            start[i], start[best] = start[best], start[i]
            end[i], end[best] = end[best], end[i]
            score[i], score[best] = score[best], score[i]
            length[i], length[best] = length[best], length[i]
            row[i], row[best] = row[best], row[i]
            kept[total], kept_score[total] = row[i], score[i]
            total += 1
            best = i + 1
            j = i + 1
            while j < high:
                inter = max(min(end[i], end[j]) - max(start[i], start[j]), zero)
                if inter > zero or decay == 0:
                    iou = inter / (length[i] + length[j] - inter)
                    if decay == 2:
                        score[j] *= math.exp(-(iou * iou) / sigma)
                    elif iou >= iou_threshold:
                        score[j] *= one - iou if decay == 1 else zero
                if score[j] < min_score:
                    high -= 1
                    start[j], end[j], score[j] = start[high], end[high], score[high]
                    length[j], row[j] = length[high], row[high]
                    continue
                if score[best] < score[j]:
                    best = j
                j += 1
            i += 1
    return kept[:total], kept_score[:total]


def _hard(segments, edges, limit, iou_threshold):  # type: ignore[no-untyped-def]
    """Hard NMS of rows sorted by descending score within their group; returns the kept rows."""
    epsilon, zero = np.float32(1e-6), np.float32(0)
    start, end = segments[:, 0], segments[:, 1]
    removed = np.zeros(len(segments), np.bool_)
    kept, total = np.empty(len(segments), np.int64), 0
    for group in range(len(edges) - 1):
        first = total
        for i in range(edges[group], edges[group + 1]):
            if removed[i]:
                continue
            if total - first >= limit:
                break
            kept[total] = i
            total += 1
            length = end[i] - start[i] + epsilon
            for j in range(i + 1, edges[group + 1]):
                inter = max(min(end[i], end[j]) - max(start[i], start[j]), zero)
                if inter / (length + (end[j] - start[j] + epsilon) - inter) >= iou_threshold:
                    removed[j] = True
    return kept[:total]


def _vote(kept, candidates, scores, threshold, by_tiou):  # type: ignore[no-untyped-def]
    """Weighted mean over candidates with tIoU ≥ threshold; lengths are not increased by 1e-6 here."""
    voted = kept.copy()
    zero = np.float32(0)
    for i in range(len(kept)):
        total, start, end = 0.0, 0.0, 0.0
        for j in range(len(candidates)):
            inter = min(kept[i, 1], candidates[j, 1]) - max(kept[i, 0], candidates[j, 0])
            if inter <= zero:
                continue
            union = (kept[i, 1] - kept[i, 0]) + (candidates[j, 1] - candidates[j, 0]) - inter
            iou = inter / union
            if iou >= threshold:
                weight = np.float64(scores[j])
                if by_tiou:
                    weight *= iou
                total += weight
                start += weight * candidates[j, 0]
                end += weight * candidates[j, 1]
        if total > 0:
            voted[i, 0], voted[i, 1] = start / total, end / total
    return voted


_KERNELS: dict[str, tuple[Callable[..., Any], str]] = {
    "soft": (_soft, "Tuple((i8[::1], f4[::1]))(f4[:, ::1], f4[::1], i8[::1], i8, i8, f4, f4, f4)"),
    "hard": (_hard, "i8[::1](f4[:, ::1], i8[::1], i8, f4)"),
    "vote": (_vote, "f4[:, ::1](f4[:, ::1], f4[:, ::1], f4[::1], f4, b1)"),
}


def _compiled(name: str) -> Callable[..., Any]:
    return compiled(*_KERNELS[name])
