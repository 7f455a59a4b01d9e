"""Detections of a run against the labels, by the protocol of its dataset."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import pairwise

import pandas as pd

from tal_bench.config import DatasetSpec, Phase
from tal_bench.data.dataset import ONE_CLASS, Dataset, Video
from tal_bench.evaluation.mean_ap import MeanAP, interpolated_ap, thumos_ap
from tal_bench.evaluation.recall import recall_at_k
from tal_bench.inference.detections import detections_table, ground_truth_table
from tal_bench.training.score_fusion import fuse_video_scores
from tal_bench.types import Segments


def tables(
    found: Sequence[Segments], videos: Sequence[Video], data: Dataset
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Detections and labels with the names of classes.

    Where external scores name the classes, they must cover all videos: validation videos, which are cut from
    the training videos, often have none. Labels then become one class on both sides.
    """
    scores = data.scores
    if scores is None:
        return detections_table(found, data.classes), ground_truth_table(videos, data.classes)
    if not _covers(scores, videos):
        truth = ground_truth_table(videos, data.classes).assign(label=ONE_CLASS[0])
        return detections_table(found, ONE_CLASS), truth
    named = [fuse_video_scores(one, scores[one.video], data.spec.scores_top) for one in found]
    return detections_table(named, data.classes), ground_truth_table(videos, data.classes)


def average_precision(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> MeanAP:
    """By the dataset's protocol, at its thresholds."""
    compute = thumos_ap if spec.ap_method == "thumos" else interpolated_ap
    return compute(detections, truth, spec.tiou, videos=videos)


def recalls(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> dict[str, float]:
    """Recall@kx in percent, `recall_1x_0.50` and `recall_1x_avg`; empty where the dataset does not ask."""
    if not spec.recall:
        return {}
    found = recall_at_k(detections, truth, spec.tiou, spec.recall, videos=videos)
    named = {
        f"recall_{k}x_{at:.2f}": 100.0 * float(found.mean[i, j])
        for j, k in enumerate(found.ks)
        for i, at in enumerate(found.thresholds)
    }
    means = found.mean.mean(axis=0)
    return named | {f"recall_{k}x_avg": 100.0 * float(means[j]) for j, k in enumerate(found.ks)}


def beside(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> dict[str, float]:
    """Average mAP in percent over the dataset's second grid, `map_0.50-0.95`; empty where it has none."""
    if not spec.tiou_beside:
        return {}
    second = spec.model_copy(update={"tiou": spec.tiou_beside})
    found = average_precision(second, detections, truth, videos).average
    return {f"map_{min(spec.tiou_beside):.2f}-{max(spec.tiou_beside):.2f}": 100.0 * found}


def _covers(scores: Container[str], videos: Sequence[Video]) -> bool:
    return all(video.meta.id in scores for video in videos)


def evaluated(data: Dataset, phase: Phase, videos: Sequence[Video]) -> str:
    """How the metrics of a run were computed, in words."""
    spec = data.spec
    if phase == "final":
        return described(spec)
    parts = [_measure(spec), "on the validation part of the training videos"]
    if data.scores is not None and not _covers(data.scores, videos):
        parts.append("without classes")
    return ", ".join(parts)


def described(spec: DatasetSpec) -> str:
    """The protocol in words: how precision is computed, at which tIoU, on which videos."""
    where = " + ".join(spec.test) if spec.folds is None else f"fold {spec.fold + 1} of {spec.folds}"
    parts = [_measure(spec), f"on {where}"]
    if spec.exclude:
        parts.append(f"without {', '.join(spec.exclude)}")
    if spec.scores is not None:
        parts.append(f"classes by external scores (best {spec.scores_top})")
    return ", ".join(parts)


def _measure(spec: DatasetSpec) -> str:
    how = "original THUMOS'14 AP" if spec.ap_method == "thumos" else "ActivityNet-style AP"
    return f"{how}, tIoU {tiou_grid(spec.tiou)}"


def tiou_grid(tiou: Sequence[float]) -> str:
    """Thresholds in words: 0.3:0.1:0.7 where they are even, else one by one."""
    steps = {round(b - a, 6) for a, b in pairwise(tiou)}
    if len(steps) == 1 and len(tiou) > 2:
        return f"{tiou[0]:g}:{steps.pop():g}:{tiou[-1]:g}"
    return ", ".join(f"{t:g}" for t in tiou)
