"""Test trained models on corrupted versions of their test videos, in worker processes, with a cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec, Spec, content_hash
from tal_bench.corruption.features import corrupt_features
from tal_bench.corruption.registry import VERSION, Condition
from tal_bench.corruption.store import FOLDER, Store
from tal_bench.data.dataset import Dataset, Video, open_cached
from tal_bench.errors import TalBenchError
from tal_bench.evaluation.matching import Floats, match
from tal_bench.evaluation.mean_ap import ap_from_matches, thumos_match
from tal_bench.evaluation.robustness import RunScores, Version
from tal_bench.evaluation.significance import sample_row
from tal_bench.extraction.workers import map_items
from tal_bench.inference import scoring
from tal_bench.inference.trained_models import TrainedModel
from tal_bench.models.checkpoint import load_model
from tal_bench.plugins import load_plugins
from tal_bench.system.files import write_atomically
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict

DRAWS = 300
"""Number of bootstrap draws over videos, computed for every run on every corrupted version."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RobustnessOptions:
    """Options of a robustness evaluation.

    Attributes:
        rows: Names of rows of a study; empty means all.
        corruptions: Names of corruptions; empty means all of the level.
        severities: Severities; empty means all.
        shares: Shares of the frames of every action; empty means those of THUMOS14-C.
        level: Whether pixels or features are corrupted; `auto` means pixels if videos are available.
        against: Row with which others are compared; None means `none`, or else the first row.
        dataset: Dataset of the models, if they do not record it or its files have moved.
        data_root: Folder of downloaded datasets.
        seed: Seed of the corruptions' random numbers.
        jobs: Number of processes of one thread each.
        device: Device of the detectors.
        plugins: Plugin files.
        cache: Cache folder; None means the user's.
    """

    rows: tuple[str, ...] = ()
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    level: Literal["auto", "pixels", "features"] = "auto"
    against: str | None = None
    dataset: str | None = None
    data_root: Path | None = None
    seed: int = 0
    jobs: int = 1
    device: str = "cpu"
    plugins: tuple[Path, ...] = ()
    cache: Path | None = None


@dataclass(frozen=True)
class RetestTask:
    """Test of one model on several versions of the test videos, run by a worker.

    Attributes:
        model: Trained model.
        dataset: Dataset with the paths of its files on this machine.
        conditions: Corrupted versions; empty means the original videos.
        store: Cache of the features of corrupted videos; None if features are corrupted.
        options: Options of the evaluation.
        file: File of the results.
    """

    model: TrainedModel
    dataset: DatasetSpec
    conditions: tuple[Condition, ...]
    store: Store | None
    options: RobustnessOptions
    file: Path


def raise_worker_died(item: Any) -> Any:
    """Handle the death of a worker process by stopping the evaluation.

    Raises:
        TalBenchError: Always.
    """
    hint = "free memory or use --jobs 1, and run the command again; finished results are kept"
    raise TalBenchError("a worker process died, possibly because memory ran out", hint=hint)


def retest_models(
    models: Sequence[TrainedModel],
    dataset: DatasetSpec,
    conditions: Sequence[Condition],
    store: Store | None,
    root: Path,
    options: RobustnessOptions,
    progress: Progress,
) -> list[RunScores]:
    """Test every model on the original videos and under all conditions, reusing cached results."""
    by_corruption: dict[str, list[Condition]] = {"": []}
    for condition in conditions:
        by_corruption.setdefault(condition.corruption, []).append(condition)
    data_identity = _identity(dataset, store, options.seed)
    folder = root / FOLDER / f"{dataset.name}-{dataset.fingerprint}" / "results"
    tasks_by_model: list[list[RetestTask]] = []
    for model in models:
        weights = hashlib.sha256(model.file.read_bytes()).hexdigest()[:16]
        identity = [weights, _non_defaults(model.detector), _non_defaults(model.decode)]
        tasks = []
        for part in by_corruption.values():
            versions = [condition.folder(options.seed) for condition in part]
            parts: list[Any] = [
                VERSION,
                DRAWS,
                data_identity,
                identity,
                model.limit,
                model.precision,
                versions,
            ]
            key = content_hash(parts + ([options.device] if options.device != "cpu" else []))
            tasks.append(RetestTask(model, dataset, tuple(part), store, options, folder / f"{key}.json"))
        tasks_by_model.append(tasks)
    every = [task for tasks in tasks_by_model for task in tasks]
    waiting = [task for task in every if not task.file.is_file()]
    done = len(every) - len(waiting)
    found = map_items(run_task, waiting, options.jobs, raise_worker_died, options.device)
    with contextlib.closing(found) as results:
        for _ in results:
            done += 1
            progress(done, len(every))
    return [_scores(model, tasks) for model, tasks in zip(models, tasks_by_model, strict=True)]


def _non_defaults(spec: Spec) -> dict[str, Any]:
    """Return the non-default fields of a spec, so that new fields do not invalidate cached results."""
    return spec.model_dump(mode="json", exclude_defaults=True)


def _identity(dataset: DatasetSpec, store: Store | None, seed: int) -> list[Any]:
    """Return everything about the data that affects a result, except the paths of files."""
    value = _non_defaults(dataset)
    for key in ("annotations", "scores"):
        value.pop(key, None)
    for modality in value["modalities"].values():
        modality.pop("folder")
        modality.pop("also", None)
    return [value, store.extraction.hash if store else "features", seed]


def run_task(task: RetestTask) -> None:
    """Test a model and write its average mAP, on all videos and in every bootstrap draw, to the file."""
    options, model = task.options, task.model
    load_plugins(options.plugins)
    net, _ = load_model(model.file, model.card)
    device = Device(options.device, model.precision)
    data = open_cached(task.dataset, model.detector.reads, model.limit)
    videos = data.videos("test")
    averages = []
    for condition in task.conditions or (None,):
        inputs = videos if condition is None else [_corrupt(video, condition, task) for video in videos]
        averages.append(_average_map(net, model, inputs, data, device).tolist())
    write_atomically(task.file, json.dumps(averages))


def _corrupt(video: Video, condition: Condition, task: RetestTask) -> Video:
    """Return the video with the features of its corrupted version."""
    names = task.model.detector.reads
    features: dict[str, NDArray[np.float32]] = {}
    if task.store is not None:
        features |= task.store.features(task.dataset, video.meta.id, names, condition)
    else:
        for name in names:
            original = video.crop(name, 0, video.steps)
            key = f"{video.meta.id}/{name}"
            features[name] = corrupt_features(
                original, condition, video.segments, video=key, seed=task.options.seed
            )
    return Video(
        video.meta,
        features,
        video.segments,
        video.labels,
        video.segments_seconds,
        video.steps,
        video.one_class,
    )


def _average_map(
    net: torch.nn.Module, model: TrainedModel, videos: Sequence[Video], data: Dataset, device: Device
) -> Floats:
    """Return the average mAP, 0 … 1, on all videos and in every draw [1 + D]; no draws for one group."""
    segments = list(predict(net, model.detector, videos, model.decode, device))
    detections, truth = scoring.tables(segments, videos, data)
    match_method = thumos_match if data.spec.ap_method == "thumos" else match
    ids = [video.meta.id for video in videos]
    matches = match_method(detections, truth, data.spec.tiou, videos=ids)
    groups = groups_of(data, ids)
    if len(set(groups.values()) if groups else ids) < 2:
        return np.array([np.nanmean(ap_from_matches(matches))])
    sample = sample_row([matches], draws=DRAWS, groups=groups)
    return np.concatenate([sample.average, sample.bootstrap[0].round(8)])


def groups_of(data: Dataset, videos: Sequence[str]) -> dict[str, str] | None:
    """Return the group of every video, or None if the videos are not grouped."""
    groups = {video: data.selection.groups[video] for video in videos}
    return groups if any(group != video for video, group in groups.items()) else None


def _scores(model: TrainedModel, tasks: Sequence[RetestTask]) -> RunScores:
    clean: Floats | None = None
    corrupted: dict[Version, Floats] = {}
    for task in tasks:
        averages = [np.asarray(x, np.float64) for x in json.loads(task.file.read_text(encoding="utf-8"))]
        if not task.conditions:
            clean = averages[0]
        for condition, values in zip(task.conditions, averages, strict=False):
            corrupted[condition.corruption, condition.severity, condition.share] = values
    assert clean is not None  # every model has a task without conditions
    return RunScores(model.row, model.seed, clean, corrupted)
