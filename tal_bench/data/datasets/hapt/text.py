"""Reading of the recordings from UCI's text files: one per sensor and recording, and one of segments."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.hapt.recordings import LABELS, SENSORS, Recording, validated
from tal_bench.errors import DataError

SIGNAL = re.compile(r"(acc|gyro)_exp(\d+)_user(\d+)\.txt")
SEGMENTS, ACTIVITIES = "labels.txt", "activity_labels.txt"
WANTED = f"expected acc_expNN_userNN.txt, gyro_expNN_userNN.txt and {SEGMENTS}"
LARGEST = 2**26
"""Largest size of a text file in bytes; the original ones have less than two million."""
Files = dict[str, Callable[[], bytes]]


def read_text(source: Path) -> list[Recording]:
    """Read all recordings of a folder or a ZIP file, which may contain another ZIP file, as UCI's does.

    First and last samples of segments are counted from 0. Names of activities are compared with the expected
    ones if `activity_labels.txt` exists.

    Raises:
        DataError: There are no recordings, or a file is missing or malformed.
    """
    files = _folder_files(source) if source.is_dir() else _zip_files(source)
    sensors: dict[tuple[int, int], dict[str, str]] = {}
    for name in files:
        if match := SIGNAL.fullmatch(name):
            sensors.setdefault((int(match[2]), int(match[3])), {})[match[1]] = name
    if not sensors or SEGMENTS not in files:
        problem = f"no {SEGMENTS}" if sensors else "no recordings"
        raise DataError(problem, where=source, hint=WANTED)
    if ACTIVITIES in files:
        _check_activities(files, source)
    table = _numbers(files, SEGMENTS, 5, source).astype(np.int64)
    listed = {(int(e), int(u)) for e, u in table[:, :2]}
    missing = [
        f"{sensor}_exp{e:02d}_user{u:02d}.txt"
        for e, u in sorted(listed | set(sensors))
        for sensor in SENSORS
        if sensor not in sensors.get((e, u), {})
    ]
    if missing:
        more = f" and {len(missing) - 1} others are" if len(missing) > 1 else " is"
        raise DataError(f"{missing[0]}{more} missing", where=source, hint=WANTED)
    recordings = []
    for (experiment, user), names in sorted(sensors.items()):
        signals = {sensor: _numbers(files, names[sensor], 3, source) for sensor in SENSORS}
        rows = table[(table[:, 0] == experiment) & (table[:, 1] == user)]
        segments = np.stack([rows[:, 2] - 1, rows[:, 3], rows[:, 4] + 1], axis=1)
        recordings.append(Recording(experiment, user, signals, segments))
    return validated(recordings, source)


def _folder_files(folder: Path) -> Files:
    """Return a reader for each text file of a folder by name; of equal names, the one nearest the top."""
    paths = sorted(folder.rglob("*.txt"), key=lambda path: (-len(path.parts), path))
    return {path.name: path.read_bytes for path in paths}


def _zip_files(path: Path) -> Files:
    try:
        archive = zipfile.ZipFile(path)
        inner = [name for name in archive.namelist() if name.lower().endswith(".zip")]
        if inner and not any(SIGNAL.fullmatch(Path(name).name) for name in archive.namelist()):
            archive = zipfile.ZipFile(io.BytesIO(archive.read(inner[0])))
    except FileNotFoundError:
        raise DataError("no such file or directory", where=path, hint=WANTED) from None
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"neither a directory nor a readable ZIP file: {error}", where=path) from None
    infos = [info for info in archive.infolist() if info.filename.endswith(".txt")]

    def reader(info: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            if info.file_size > LARGEST:
                raise DataError(f"{info.filename} has {info.file_size} bytes", where=path)
            return archive.read(info)

        return read

    return {Path(info.filename).name: reader(info) for info in infos}


def _numbers(files: Files, name: str, columns: int, source: Path) -> NDArray[np.float64]:
    """Read a text file of numbers, [N, columns]."""
    try:
        numbers = np.loadtxt(io.BytesIO(files[name]()), dtype=np.float64, ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError, zipfile.BadZipFile, RuntimeError, EOFError) as error:
        raise DataError(f"{name} cannot be read: {error}", where=source) from None
    if numbers.shape[1] != columns or not len(numbers):
        raise DataError(
            f"{name} has {len(numbers)} × {numbers.shape[1]} numbers, expected N × {columns}", where=source
        )
    return numbers


def _check_activities(files: Files, source: Path) -> None:
    words = files[ACTIVITIES]().decode("utf-8", "replace").split()
    activities = dict(zip(words[::2], words[1::2], strict=False))
    expected = {str(number): name for number, name in enumerate(LABELS, 1)}
    different = [
        f"{number} '{name}'" for number, name in activities.items() if expected.get(number) != name.upper()
    ]
    if different:
        raise DataError(
            f"{ACTIVITIES} has unexpected activity {different[0]}",
            where=source,
            hint="the files are of another dataset",
        )
