"""Evaluate the robustness of trained models: corrupt videos, extract their features, and test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tal_bench.config import DatasetSpec
from tal_bench.config.extraction import find_extraction
from tal_bench.corruption.registry import Condition, Level, conditions, corruptions
from tal_bench.corruption.source import find_video_files, has_footage
from tal_bench.corruption.store import Store
from tal_bench.data.dataset import Dataset, Video, open_cached
from tal_bench.errors import InputError
from tal_bench.evaluation.robustness import Robustness, RunScores, robustness
from tal_bench.extraction.workers import map_items
from tal_bench.inference.retest import (
    DRAWS,
    Progress,
    RobustnessOptions,
    groups_of,
    raise_worker_died,
    retest_models,
)
from tal_bench.inference.trained_models import TrainedModel, models_of_files, models_of_study, resolve_dataset
from tal_bench.plugins import load_plugins
from tal_bench.system.cache_folder import default_cache_dir
from tal_bench.system.environment import environment

BASELINE = "none"
ProgressDisplay = Callable[[str], AbstractContextManager[Progress]]


@contextlib.contextmanager
def no_progress(task: str) -> Iterator[Progress]:
    """Display no progress."""
    yield lambda done, total: None


def measure_robustness(
    paths: Sequence[Path],
    options: RobustnessOptions,
    *,
    progress: ProgressDisplay = no_progress,
    command: str = "",
) -> Robustness:
    """Test models on corrupted versions of their test videos.

    Features of corrupted videos and results are kept in the user's cache, so that the same call again
    computes nothing and an interrupted one continues.

    Args:
        paths: Folder of a study, or weights files.
        options: Options of the evaluation.
        progress: Function that takes the name of a task and returns a context with a callback for
            (done, total).
        command: Command line shown in the tables.

    Raises:
        InputError: A study, model or corruption does not exist, or the models cannot be compared.
        DataError: Data or videos cannot be read.
    """
    title, models, notes = _find_models(paths, options.rows)
    requested_level, chosen = _parse_conditions(options)
    dataset = resolve_dataset(models, options.dataset, data_root=options.data_root, jobs=options.jobs)
    against = _against(models, options.against)
    if len({model.limit for model in models}) > 1:
        hint = "give models with the same number of videos"
        raise InputError("models were tested on different numbers of videos", where="RUN", hint=hint)
    data = open_cached(dataset, _reads(models, dataset), models[0].limit)
    level = _choose_level(dataset, data, options, requested_level)
    chosen = chosen or conditions((), options.severities, options.shares, on=level)
    root = options.cache or default_cache_dir()
    store = _store(root, dataset, models, options.seed) if level == "pixels" else None
    if store is not None:
        with progress("corrupting") as show:
            _fill_store(store, data, chosen, options, show)
    with progress("testing") as show:
        scores = retest_models(models, dataset, chosen, store, root, options, show)
    videos = [video.meta.id for video in data.videos("test")]
    groups = groups_of(data, videos)
    lines = robustness(scores, against=against, videos=len(videos), groups=len(set((groups or {}).values())))
    runs = [_run(model, model_scores) for model, model_scores in zip(models, scores, strict=True)]
    notes += _compare_with_stored(runs)
    facts = environment(torch.device(options.device))
    return Robustness(
        title=f"{title}: {dataset.name}",
        level=level,
        kinds={model.row: model.kind for model in models},
        against=against,
        lines=lines,
        runs=runs,
        provenance=(
            f"Command: {command or 'Python'}",
            f"Commit: {facts['commit']}",
            f"Data: {dataset.name}, fingerprint {dataset.fingerprint}, {len(videos)} test videos",
            f"Date: {datetime.now(UTC).isoformat(timespec='seconds')}",
            f"Interval: {DRAWS} draws of videos, corruptions with seed {options.seed}",
        ),
        notes=notes,
    )


def _find_models(paths: Sequence[Path], rows: Sequence[str]) -> tuple[str, list[TrainedModel], list[str]]:
    """Return title, models and notes."""
    if any((path / "study.json").is_file() for path in paths):
        if len(paths) > 1:
            hint = "give one study folder, or only weights files"
            raise InputError(f"got {len(paths)} paths with a study folder", where=paths[0], hint=hint)
        record, models, notes = models_of_study(paths[0], rows)
        return record.spec.name, models, notes
    if rows:
        raise InputError("only studies have rows", where="--row", hint="give the folder of a study")
    models = models_of_files(paths)
    return models[0].row if len(models) == 1 else f"{len(models)} models", models, []


def _parse_conditions(options: RobustnessOptions) -> tuple[Level | None, list[Condition]]:
    """Return level and conditions as far as options define them, to report errors before data is read."""
    if not options.corruptions and options.level == "auto":
        conditions((), options.severities, options.shares)
        return None, []
    implied = corruptions.get(options.corruptions[0]).on if options.corruptions else None
    level: Level = implied or "pixels" if options.level == "auto" else options.level
    return level, conditions(options.corruptions, options.severities, options.shares, on=level)


def _against(models: Sequence[TrainedModel], requested: str | None) -> str | None:
    """Return the row with which others are compared."""
    names = list(dict.fromkeys(model.row for model in models))
    if requested is not None:
        if requested not in names:
            hint = f"choose from {', '.join(names)}"
            raise InputError(f"no row '{requested}'", where="--against", hint=hint)
        return requested
    return None if len(names) == 1 else BASELINE if BASELINE in names else names[0]


def _reads(models: Sequence[TrainedModel], dataset: DatasetSpec) -> tuple[str, ...]:
    """Return the streams that any of the models reads, in the order of the dataset."""
    needed = {name for model in models for name in model.detector.reads}
    for name in sorted(needed - set(dataset.modalities)):
        raise InputError(f"the dataset '{dataset.name}' has no stream '{name}'", where="--dataset")
    return tuple(name for name in dataset.modalities if name in needed)


def _choose_level(
    dataset: DatasetSpec, data: Dataset, options: RobustnessOptions, requested: Level | None
) -> Level:
    """Choose pixels if videos and extraction settings are available, otherwise features."""
    level = requested or (None if options.level == "auto" else options.level)
    known = find_extraction(dataset, data.modalities) is not None
    if level is None and not known:
        return "features"
    if level != "features":
        videos = data.ids("test")
        available = known and (
            has_footage(dataset) or bool(find_video_files(dataset, data.modalities, videos))
        )
        if not available and level == "pixels":
            hint = "use --level features"
            raise InputError(f"dataset '{dataset.name}' has no videos", where="RUN", hint=hint)
        return "pixels" if available else "features"
    return "features"


def _store(root: Path, dataset: DatasetSpec, models: Sequence[TrainedModel], seed: int) -> Store:
    extraction = find_extraction(dataset, _reads(models, dataset))
    assert extraction is not None  # checked by `_choose_level`
    return Store(root, dataset, extraction, seed)


def _fill_store(
    store: Store, data: Dataset, chosen: Sequence[Condition], options: RobustnessOptions, progress: Progress
) -> None:
    """Extract the features of corrupted videos that are not in the cache."""
    videos = {video.meta.id: video for video in data.videos("test")}
    files = (
        {} if has_footage(store.dataset) else find_video_files(store.dataset, data.modalities, list(videos))
    )
    waiting = [
        (video, files.get(name), missing)
        for name, video in videos.items()
        if (missing := store.missing(name, chosen))
    ]
    items = [(_without_features(video), file, missing) for video, file, missing in waiting]
    done = len(videos) - len(items)
    corrupt_one = partial(_corrupt_one, store=store, plugins=options.plugins)
    with contextlib.closing(map_items(corrupt_one, items, options.jobs, raise_worker_died)) as results:
        for _ in results:
            done += 1
            progress(done, len(videos))


def _without_features(video: Video) -> Video:
    return Video(
        video.meta, {}, video.segments, video.labels, video.segments_seconds, video.steps, video.one_class
    )


def _corrupt_one(
    item: tuple[Video, Path | None, list[Condition]], store: Store, plugins: Sequence[Path]
) -> None:
    load_plugins(plugins)
    store.fill(*item)


def _run(model: TrainedModel, scores: RunScores) -> dict[str, Any]:
    return {
        "row": model.row,
        "seed": model.seed,
        "file": model.file.name,
        "stored": model.stored,
        "clean": 100 * float(scores.clean[0]),
        "versions": [
            {"corruption": name, "severity": severity, "share": share, "map": 100 * float(values[0])}
            for (name, severity, share), values in scores.corrupted.items()
        ],
    }


def _compare_with_stored(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return a note on whether the mAP on the original videos equals the stored one."""
    differences = [abs(run["clean"] - run["stored"]) for run in runs if run["stored"] is not None]
    if not differences:
        return []
    if max(differences) < 1e-6:
        return [f"Without corruption, all {len(differences)} runs reproduce the mAP stored in their study."]
    return [f"Without corruption, mAP differs from the stored value by up to {max(differences):.2f} points."]
