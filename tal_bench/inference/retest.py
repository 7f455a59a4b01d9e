"""Test models that are trained on other versions of their test videos, in processes; outcomes are kept."""

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
from tal_bench.corruptions.features import corrupt_features
from tal_bench.corruptions.registry import VERSION, Condition
from tal_bench.corruptions.store import FOLDER, Store
from tal_bench.data.dataset import Dataset, Video, open_cached
from tal_bench.errors import TalBenchError
from tal_bench.evaluation.matching import Floats, match
from tal_bench.evaluation.mean_ap import ap_from_matches, thumos_match
from tal_bench.evaluation.robustness import RunScores, Version
from tal_bench.evaluation.significance import sample_row
from tal_bench.extraction.workers import map_items
from tal_bench.inference import scoring
from tal_bench.inference.trained_models import Subject
from tal_bench.models.checkpoint import load_model
from tal_bench.plugins import load_plugins
from tal_bench.system.files import write_atomically
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict

DRAWS = 300
"""Of the bootstrap over videos; each is computed for every run on every corrupted version."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """What is tested, and how.

    Attributes:
        rows: of a study; empty = all.
        corruptions: names; empty = all of the level.
        severities: empty = all.
        shares: of the frames of every action; empty = those of THUMOS14-C.
        level: what is corrupted; `auto` is pixels where there are videos.
        against: row that others are compared with; none = `none`, or the first.
        dataset: where models were tested, if they do not say or it has moved.
        data_root: folder of downloaded datasets.
        seed: of the corruptions' random numbers.
        jobs: processes of one thread each.
        device: of the detectors.
        plugins: files with declarations.
        cache: folder of what is made; the user's by default.
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
class Test:
    """A run on some versions of the test videos; what a worker needs.

    Attributes:
        subject: the model.
        dataset: as it lies here.
        wanted: corrupted versions; none at all stands for the videos as they are.
        store: of features of corrupted videos; none = features are corrupted.
        options: see there.
        file: that the outcome is kept in.
    """

    subject: Subject
    dataset: DatasetSpec
    wanted: tuple[Condition, ...]
    store: Store | None
    options: Options
    file: Path


def crashed(item: Any) -> Any:
    """Give up: whoever asked runs again and goes on.

    Raises:
        TalBenchError: always.
    """
    hint = "free memory or use --jobs 1; what was finished is kept"
    raise TalBenchError("a worker process died, perhaps for lack of memory", hint=hint)


def run_tests(
    subjects: Sequence[Subject],
    dataset: DatasetSpec,
    wanted: Sequence[Condition],
    store: Store | None,
    root: Path,
    options: Options,
    progress: Progress,
) -> list[RunScores]:
    """Test every model on everything that has not been tested yet."""
    by_corruption: dict[str, list[Condition]] = {"": []}
    for condition in wanted:
        by_corruption.setdefault(condition.corruption, []).append(condition)
    made_of = _identity(dataset, store, options.seed)
    folder = root / FOLDER / f"{dataset.name}-{dataset.fingerprint}" / "results"
    tests: list[list[Test]] = []
    for subject in subjects:
        weights = hashlib.sha256(subject.file.read_bytes()).hexdigest()[:16]
        model = [weights, _said(subject.detector), _said(subject.decode)]
        tests.append([])
        for part in by_corruption.values():
            versions = [condition.folder(options.seed) for condition in part]
            key = content_hash([VERSION, DRAWS, made_of, model, subject.limit, subject.precision, versions])
            file = folder / f"{key}.json"
            tests[-1].append(Test(subject, dataset, tuple(part), store, options, file))
    every = [test for of_one in tests for test in of_one]
    waiting = [test for test in every if not test.file.is_file()]
    done = len(every) - len(waiting)
    with contextlib.closing(map_items(run_test, waiting, options.jobs, crashed)) as ended:
        for _ in ended:
            done += 1
            progress(done, len(every))
    return [_scores(subject, of_one) for subject, of_one in zip(subjects, tests, strict=True)]


def _said(spec: Spec) -> dict[str, Any]:
    """What a spec says beyond its defaults; so a setting that comes later does not make old outcomes void."""
    return spec.model_dump(mode="json", exclude_defaults=True)


def _identity(dataset: DatasetSpec, store: Store | None, seed: int) -> list[Any]:
    """What features and protocol a test sees, wherever the files lie."""
    value = _said(dataset)
    for key in ("annotations", "scores"):
        value.pop(key, None)
    for modality in value["modalities"].values():
        modality.pop("folder")
        modality.pop("also", None)
    return [value, store.extraction.hash if store else "features", seed]


def run_test(test: Test) -> None:
    """Test a model and keep its average mAP, measured and in every draw of videos, in the file."""
    options, subject = test.options, test.subject
    load_plugins(options.plugins)
    net, _ = load_model(subject.file, subject.card)
    device = Device(options.device, subject.precision)
    data = open_cached(test.dataset, subject.detector.reads, subject.limit)
    videos = data.videos("test")
    found = []
    for condition in test.wanted or (None,):
        seen = videos if condition is None else [_version(video, condition, test) for video in videos]
        found.append(_average(net, subject, seen, data, device).tolist())
    write_atomically(test.file, json.dumps(found))


def _version(video: Video, condition: Condition, test: Test) -> Video:
    """A video with the features of its corrupted version."""
    names = test.subject.detector.reads
    features: dict[str, NDArray[np.float32]] = {}
    if test.store is not None:
        features |= test.store.features(test.dataset, video.meta.id, names, condition)
    else:
        for name in names:
            whole = video.crop(name, 0, video.steps)
            key = f"{video.meta.id}/{name}"
            features[name] = corrupt_features(
                whole, condition, video.segments, video=key, seed=test.options.seed
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


def _average(
    net: torch.nn.Module, subject: Subject, videos: Sequence[Video], data: Dataset, device: Device
) -> Floats:
    """Average mAP, 0 … 1, measured and then draw by draw `[1 + D]`; without draws for one video."""
    found = list(predict(net, subject.detector, videos, subject.decode, device))
    detections, truth = scoring.tables(found, videos, data)
    compare = thumos_match if data.spec.ap_method == "thumos" else match
    ids = [video.meta.id for video in videos]
    matches = compare(detections, truth, data.spec.tiou, videos=ids)
    groups = groups_of(data, ids)
    if len(set(groups.values()) if groups else ids) < 2:
        return np.array([np.nanmean(ap_from_matches(matches))])
    sample = sample_row([matches], draws=DRAWS, groups=groups)
    return np.concatenate([sample.average, sample.bootstrap[0].round(8)])


def groups_of(data: Dataset, videos: Sequence[str]) -> dict[str, str] | None:
    """Group of every video, or none where they stand for themselves."""
    groups = {video: data.selection.groups[video] for video in videos}
    return groups if any(group != video for video, group in groups.items()) else None


def _scores(subject: Subject, tests: Sequence[Test]) -> RunScores:
    clean: Floats | None = None
    corrupted: dict[Version, Floats] = {}
    for test in tests:
        values = [np.asarray(one, np.float64) for one in json.loads(test.file.read_text(encoding="utf-8"))]
        if not test.wanted:
            clean = values[0]
        for condition, one in zip(test.wanted, values, strict=False):
            corrupted[condition.corruption, condition.severity, condition.share] = one
    assert clean is not None  # the first test of every subject
    return RunScores(subject.row, subject.seed, clean, corrupted)
