"""Whether a training repeats its results: the same command twice, with and without `--deterministic`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from processes import start
from tiny import write_dataset

from tal_bench.results.folder import StudyFolder

from .correctness import finish
from .rows import Check, Row, Settings

WORDS = "train conv-dw-hallucinated --variant both --budget smoke"
"""A student and two teachers, whose structures have attention, convolutions, and depthwise convolutions."""
Files = dict[str, str]
"""SHA-256 by run and suffix: weights and detections."""


def deterministic(settings: Settings) -> Iterator[Row]:
    """Train twice with `--deterministic`; fails if a file differs."""
    began = time.monotonic()
    first, second = _trained_twice(settings, "--deterministic")
    if wrong := _different(first, second):
        raise RuntimeError(f"{len(wrong)} of {len(first)} files differ: {', '.join(wrong)}")
    note = f"two trainings, {len(first)} files of weights and detections: equal, {_seconds(began)}"
    yield Row("repeated with --deterministic", value=float(len(first)), unit="equal", note=note)


def ordinary(settings: Settings) -> Iterator[Row]:
    """Do the same without it; results of a GPU may differ, and the row says whether they do."""
    began = time.monotonic()
    first, second = _trained_twice(settings)
    same = len(first) - len(_different(first, second))
    note = f"two trainings, {len(first)} files of weights and detections, {_seconds(began)}"
    yield Row("repeated without it", value=float(same), unit="equal", note=note)


def _trained_twice(settings: Settings, *flags: str) -> tuple[Files, Files]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = write_dataset(folder / "tiny")
        found: list[Files] = []
        for name in ("first", "second"):
            words = [*WORDS.split(), "--dataset", dataset, "--device", settings.device, "--reports", name]
            finish(start([*words, *flags], folder), settings)
            study = StudyFolder(next((folder / name).glob("train-*")))
            found.append(
                {f"{run.spec.model}{end}": sha for run in study.runs() for end, sha in run.files.items()}
            )
    return found[0], found[1]


def _different(first: Files, second: Files) -> list[str]:
    """Return the files that differ or are in one of both only."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _seconds(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


CHECKS = [
    Check("repeated with --deterministic", deterministic),
    Check("repeated without it", ordinary, needs_cuda=True),
]
