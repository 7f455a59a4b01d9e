"""Evaluate the detections of a run with the metrics of its dataset."""

from __future__ import annotations

from collections.abc import Container, Sequence
from itertools import pairwise

import pandas as pd

from tal_bench.config import DatasetSpec, Phase
from tal_bench.data.dataset import ONE_CLASS, Dataset, Video
from tal_bench.evaluation.mean_ap import MeanAP, interpolated_ap, thumos_ap
from tal_bench.evaluation.recall import recall_at_k
from tal_bench.inference.detections import detections_table, ground_truth_table
from tal_bench.training.decoding.score_fusion import fuse_video_scores
from tal_bench.types import Segments


def tables(
    detections: Sequence[Segments], videos: Sequence[Video], data: Dataset
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of detections and ground truth, with names of classes.

    If classes come from external scores, these must cover all videos. Validation videos, which are a part of
    the training videos, often lack them; then all labels become one class in both tables.
    """
    scores = data.scores
    if scores is None:
        return detections_table(detections, data.classes), ground_truth_table(videos, data.classes)
    if not _covers(scores, videos):
        truth = ground_truth_table(videos, data.classes).assign(label=ONE_CLASS[0])
        return detections_table(detections, ONE_CLASS), truth
    named = [fuse_video_scores(part, scores[part.video], data.spec.scores_top) for part in detections]
    return detections_table(named, data.classes), ground_truth_table(videos, data.classes)


def metrics(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Compute all metrics of a dataset in percent.

    Returns:
        Metrics by name (`map_0.50`, …, `map_avg`, recalls, averages over a second tIoU grid), and the mean AP
        over thresholds by class.
    """
    arguments = (spec, detections, truth, videos)
    accuracy = average_precision(*arguments)
    at_tiou = zip(accuracy.thresholds, accuracy.map, strict=True)
    found = {f"map_{t:.2f}": 100.0 * float(value) for t, value in at_tiou}
    found |= {"map_avg": 100.0 * accuracy.average, **recalls(*arguments), **additional_averages(*arguments)}
    means = accuracy.ap.mean(axis=0)
    return found, {str(c): 100.0 * float(x) for c, x in zip(accuracy.classes, means, strict=True)}


def average_precision(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> MeanAP:
    """Compute average precision with the dataset's AP method and tIoU thresholds."""
    compute = thumos_ap if spec.ap_method == "thumos" else interpolated_ap
    return compute(detections, truth, spec.tiou, videos=videos)


def recalls(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> dict[str, float]:
    """Return Recall@kx in percent as `recall_1x_0.50`, `recall_1x_avg`, …; empty if not configured."""
    if not spec.recall:
        return {}
    result = recall_at_k(detections, truth, spec.tiou, spec.recall, videos=videos)
    by_threshold = {
        f"recall_{k}x_{at:.2f}": 100.0 * float(result.mean[i, j])
        for j, k in enumerate(result.ks)
        for i, at in enumerate(result.thresholds)
    }
    means = result.mean.mean(axis=0)
    return by_threshold | {f"recall_{k}x_avg": 100.0 * float(means[j]) for j, k in enumerate(result.ks)}


def additional_averages(
    spec: DatasetSpec, detections: pd.DataFrame, truth: pd.DataFrame, videos: Sequence[str]
) -> dict[str, float]:
    """Return the average mAP in percent over the second tIoU grid as `map_0.50-0.95`, if there is one."""
    if not spec.extra_tiou:
        return {}
    second = spec.model_copy(update={"tiou": spec.extra_tiou})
    average = average_precision(second, detections, truth, videos).average
    return {f"map_{min(spec.extra_tiou):.2f}-{max(spec.extra_tiou):.2f}": 100.0 * average}


def _covers(scores: Container[str], videos: Sequence[Video]) -> bool:
    return all(video.meta.id in scores for video in videos)


def describe_run_evaluation(data: Dataset, phase: Phase, videos: Sequence[Video]) -> str:
    """Describe in words how the metrics of a run were computed."""
    spec = data.spec
    if phase == "final":
        return describe_evaluation(spec)
    parts = [metric(spec), "on the validation part of the training videos"]
    if data.scores is not None and not _covers(data.scores, videos):
        parts.append("without classes")
    return ", ".join(parts)


def describe_evaluation(spec: DatasetSpec) -> str:
    """Describe in words the AP method, the tIoU thresholds and the test videos of a dataset."""
    videos = " + ".join(spec.test) if spec.folds is None else f"fold {spec.fold + 1} of {spec.folds}"
    parts = [metric(spec), f"on {videos}"]
    if spec.exclude:
        parts.append(f"without {', '.join(spec.exclude)}")
    if spec.scores is not None:
        parts.append(f"classes by external scores (best {spec.scores_top})")
    return ", ".join(parts)


def metric(spec: DatasetSpec) -> str:
    """Describe the AP method and the tIoU thresholds of a dataset."""
    method = "original THUMOS'14 AP" if spec.ap_method == "thumos" else "ActivityNet-style AP"
    return f"{method}, tIoU {tiou_grid(spec.tiou)}"


def tiou_grid(tiou: Sequence[float]) -> str:
    """Format tIoU thresholds as first:step:last if they are evenly spaced, otherwise as a list."""
    steps = {round(b - a, 6) for a, b in pairwise(tiou)}
    if len(steps) == 1 and len(tiou) > 2:
        return f"{tiou[0]:g}:{steps.pop():g}:{tiou[-1]:g}"
    return ", ".join(f"{t:g}" for t in tiou)
