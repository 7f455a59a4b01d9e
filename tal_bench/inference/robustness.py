"""How trained models hold out against corrupted video: corrupt, extract, test; nothing is trained."""

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
from tal_bench.corruptions.registry import Condition, Level, conditions, corruptions
from tal_bench.corruptions.source import find_video_files, has_footage
from tal_bench.corruptions.store import Store
from tal_bench.data.dataset import Dataset, Video, open_cached
from tal_bench.errors import InputError
from tal_bench.evaluation.robustness import Robustness, RunScores, robustness
from tal_bench.extraction.workers import map_items
from tal_bench.inference.retest import DRAWS, Options, Progress, crashed, groups_of, run_tests
from tal_bench.inference.trained_models import Subject, dataset_of, models_of_files, models_of_study
from tal_bench.plugins import load_plugins
from tal_bench.system.cache_folder import default_cache_dir
from tal_bench.system.environment import environment

BASELINE = "none"
Display = Callable[[str], AbstractContextManager[Progress]]


@contextlib.contextmanager
def silent(what: str) -> Iterator[Progress]:
    """Show no progress."""
    yield lambda done, total: None


def measure_robustness(
    what: Sequence[Path],
    options: Options,
    *,
    progress: Display = silent,
    command: str = "",
) -> Robustness:
    """Test models on corrupted versions of the test videos that they were tested on.

    Features of corrupted videos and mAP are kept in the user's cache by what they were made of: the same call
    again computes nothing, and one that was interrupted goes on.

    Args:
        what: the folder of a study, or files of weights.
        options: what is tested, and how.
        progress: gives, for what is being done, a callback for (done, in all) for as long as that takes.
        command: for the tables.

    Raises:
        InputError: no such study, model or corruption, or models that cannot be tested together.
        DataError: data or videos cannot be read.
    """
    title, subjects, notes = _subjects(what, options.rows)
    level, wanted = _wanted(options)
    dataset = dataset_of(subjects, options.dataset, data_root=options.data_root, jobs=options.jobs)
    against = _against(subjects, options.against)
    if len({subject.limit for subject in subjects}) > 1:
        hint = "give those of one budget"
        raise InputError("some models were tested on all videos, others on a few", where="RUN", hint=hint)
    data = open_cached(dataset, _reads(subjects, dataset), subjects[0].limit)
    found = _level(dataset, data, options, level)
    wanted = wanted or conditions((), options.severities, options.shares, on=found)
    root = options.cache or default_cache_dir()
    store = _store(root, dataset, subjects, options.seed) if found == "pixels" else None
    if store is not None:
        with progress("corrupting") as show:
            _corrupt(store, data, wanted, options, show)
    with progress("testing") as show:
        scores = run_tests(subjects, dataset, wanted, store, root, options, show)
    videos = [video.meta.id for video in data.videos("test")]
    groups = groups_of(data, videos)
    lines = robustness(scores, against=against, videos=len(videos), groups=len(set((groups or {}).values())))
    mended = [_run(subject, one) for subject, one in zip(subjects, scores, strict=True)]
    notes += _doubts(mended)
    facts = environment(torch.device(options.device))
    return Robustness(
        title=f"{title}: {dataset.name}",
        level=found,
        kinds={subject.row: subject.kind for subject in subjects},
        against=against,
        lines=lines,
        runs=mended,
        provenance=(
            f"Command: {command or 'Python'}",
            f"Commit: {facts['commit']}",
            f"Data: {dataset.name}, fingerprint {dataset.fingerprint}, {len(videos)} test videos",
            f"Date: {datetime.now(UTC).isoformat(timespec='seconds')}",
            f"Interval: {DRAWS} draws of videos, corruptions with seed {options.seed}",
        ),
        notes=notes,
    )


def _subjects(what: Sequence[Path], rows: Sequence[str]) -> tuple[str, list[Subject], list[str]]:
    studies = [path for path in what if (path / "study.json").is_file()]
    if studies:
        if len(what) > 1:
            raise InputError(f"{len(what)} were given", where=what[0], hint="give one study, or files alone")
        record, found, notes = models_of_study(what[0], rows)
        return record.spec.name, found, notes
    if rows:
        raise InputError("rows are a study's", where="--row", hint="give the folder of a study")
    found = models_of_files(what)
    return found[0].row if len(found) == 1 else f"{len(found)} models", found, []


def _wanted(options: Options) -> tuple[Level | None, list[Condition]]:
    """Level and versions as far as flags decide them, so that a wrong one is said before anything is read."""
    if not options.corruptions and options.level == "auto":
        conditions((), options.severities, options.shares)
        return None, []
    named = corruptions.get(options.corruptions[0]).on if options.corruptions else None
    level: Level = named or "pixels" if options.level == "auto" else options.level
    return level, conditions(options.corruptions, options.severities, options.shares, on=level)


def _against(subjects: Sequence[Subject], asked: str | None) -> str | None:
    names = list(dict.fromkeys(subject.row for subject in subjects))
    if asked is not None:
        if asked not in names:
            hint = f"there are {', '.join(names)}"
            raise InputError(f"no row '{asked}'", where="--against", hint=hint)
        return asked
    return None if len(names) == 1 else BASELINE if BASELINE in names else names[0]


def _reads(subjects: Sequence[Subject], dataset: DatasetSpec) -> tuple[str, ...]:
    """Streams that any of the models reads, in the dataset's order."""
    needed = {name for subject in subjects for name in subject.detector.reads}
    for name in sorted(needed - set(dataset.modalities)):
        raise InputError(f"the dataset '{dataset.name}' has no stream '{name}'", where="--dataset")
    return tuple(name for name in dataset.modalities if name in needed)


def _level(dataset: DatasetSpec, data: Dataset, options: Options, asked: Level | None) -> Level:
    """Pixels where something knows how the features are made and there are videos to make them of."""
    level = asked or (None if options.level == "auto" else options.level)
    known = find_extraction(dataset, data.modalities) is not None
    if level is None and not known:
        return "features"
    if level != "features":
        videos = data.ids("test")
        there = known and (has_footage(dataset) or bool(find_video_files(dataset, data.modalities, videos)))
        if not there and level == "pixels":
            hint = "without them: --level features"
            raise InputError(f"'{dataset.name}' comes as features, without videos", where="RUN", hint=hint)
        return "pixels" if there else "features"
    return "features"


def _store(root: Path, dataset: DatasetSpec, subjects: Sequence[Subject], seed: int) -> Store:
    extraction = find_extraction(dataset, _reads(subjects, dataset))
    assert extraction is not None  # `_level` found it
    return Store(root, dataset, extraction, seed)


def _corrupt(
    store: Store, data: Dataset, wanted: Sequence[Condition], options: Options, progress: Progress
) -> None:
    """Make the features that are not there yet."""
    videos = {video.meta.id: video for video in data.videos("test")}
    files = (
        {} if has_footage(store.dataset) else find_video_files(store.dataset, data.modalities, list(videos))
    )
    waiting = [
        (video, files.get(name), missing)
        for name, video in videos.items()
        if (missing := store.missing(name, wanted))
    ]
    bare = [(_without_features(video), file, missing) for video, file, missing in waiting]
    done = len(videos) - len(bare)
    work = partial(_corrupt_one, store=store, plugins=options.plugins)
    with contextlib.closing(map_items(work, bare, options.jobs, crashed)) as ended:
        for _ in ended:
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


def _run(subject: Subject, scores: RunScores) -> dict[str, Any]:
    return {
        "row": subject.row,
        "seed": subject.seed,
        "file": subject.file.name,
        "stored": subject.stored,
        "clean": 100 * float(scores.clean[0]),
        "versions": [
            {"corruption": name, "severity": severity, "share": share, "map": 100 * float(values[0])}
            for (name, severity, share), values in scores.corrupted.items()
        ],
    }


def _doubts(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Runs whose mAP on clean videos is not what their study stored."""
    off = [abs(run["clean"] - run["stored"]) for run in runs if run["stored"] is not None]
    if not off:
        return []
    if max(off) < 1e-6:
        return [f"Without corruption, all {len(off)} runs give the mAP that their study stored."]
    return [f"Without corruption, mAP differs from what the study stored by up to {max(off):.2f} points."]
