"""Generated recordings in both layouts from which `hapt` is read."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.data.datasets.hapt.recordings import LABELS, SENSORS, Recording

USERS = (1, 1, 2, 3, 5, 16, 24)
"""Subjects of experiments 1 to 7: training, test and validation subjects."""
COLUMNS = ("acc-x", "acc-y", "acc-z", "gyro-x", "gyro-y", "gyro-z")


def make_recordings(users: tuple[int, ...] = USERS, seed: int = 0) -> list[Recording]:
    """Noise of 400 to 700 samples with three segments each, two of them adjacent."""
    rng = np.random.default_rng(seed)
    made = []
    for experiment, user in enumerate(users, 1):
        samples = int(rng.integers(400, 700))
        signals = {sensor: rng.normal(size=(samples, 3)).round(6) for sensor in SENSORS}
        cuts = np.sort(rng.choice(np.arange(20, samples - 20, 10), 4, replace=False))
        labels = rng.choice(len(LABELS), 3, replace=False)
        gap = samples - 10
        segments = [[labels[0], cuts[0], cuts[1]], [labels[1], cuts[1], cuts[2]], [labels[2], cuts[3], gap]]
        made.append(Recording(experiment, user, signals, np.array(segments, dtype=np.int64)))
    return made


def write_text(folder: Path, recordings: list[Recording]) -> Path:
    """UCI's layout: signals and segments in `RawData`, names of the activities in the parent folder."""
    raw = folder / "RawData"
    raw.mkdir(parents=True)
    lines = []
    for r in recordings:
        for sensor, signal in r.signals.items():
            np.savetxt(raw / f"{sensor}_exp{r.experiment:02d}_user{r.user:02d}.txt", signal, fmt="%.6f")
        lines += [
            f"{r.experiment} {r.user} {label + 1} {first} {end - 1}" for label, first, end in r.segments
        ]
    (raw / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = "".join(f"{number} {name}   \n" for number, name in enumerate(LABELS, 1))
    (folder / "activity_labels.txt").write_text(names, encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Global:
    """Name of a function or class in a pickle."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """Call in a pickle, with the state set on its result."""

    function: Any
    args: tuple[Any, ...]
    state: Any = None


def emit(value: Any) -> bytes:  # noqa: PLR0911  (one per kind)
    """Writer of pickle protocol 1, which the package's file has."""
    match value:
        case Global(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, args, state):
            made = emit(function) + emit(args) + b"R"
            return made if state is None else made + emit(state) + b"b"
        case None:
            return b"N"
        case bool():
            return b"I01\n" if value else b"I00\n"
        case int():
            return b"I%d\n" % value
        case str():
            text = value.encode()
            return b"X" + len(text).to_bytes(4, "little") + text
        case tuple():
            return b"(" + b"".join(map(emit, value)) + b"t"
        case list():
            return b"](" + b"".join(map(emit, value)) + b"e"
        case dict():
            return b"}(" + b"".join(emit(k) + emit(v) for k, v in value.items()) + b"u"
    raise TypeError(type(value))


def _bytes(data: bytes) -> Call:
    return Call(Global("_codecs", "encode"), (data.decode("latin1"), "latin1"))


def _array(values: NDArray[Any]) -> Call:
    made = Global("numpy.core.multiarray", "_reconstruct"), (Global("numpy", "ndarray"), (0,), _bytes(b"b"))
    if values.dtype == object:
        dtype = Call(Global("numpy", "dtype"), ("O8", 0, 1), (3, "|", None, None, None, -1, -1, 63))
        return Call(*made, (1, values.shape, dtype, False, values.tolist()))
    kind = values.dtype.str.lstrip("<")
    dtype = Call(Global("numpy", "dtype"), (kind, 0, 1), (3, "<", None, None, None, -1, -1, 0))
    return Call(*made, (1, values.shape, dtype, False, _bytes(values.tobytes())))


def _index(names: list[str]) -> Call:
    index = Global("pandas.core.indexes.base", "Index")
    data = {"data": _array(np.array(names, dtype=object)), "name": None}
    return Call(Global("pandas.core.indexes.base", "_new_Index"), (index, data))


def frame(recording: Recording) -> Call:
    """Recording pickled like the package's data frames: one block of signals, one of integers."""
    label = np.full(recording.samples, -1, dtype=np.int64)
    for activity, first, end in recording.segments:
        label[first:end] = activity + 1
    signals = np.ascontiguousarray(np.concatenate([recording.signals[s] for s in SENSORS], axis=1).T)
    whole = np.stack([np.arange(recording.samples), label])
    names = [list(COLUMNS), ["sequence", "label"]]
    state = ([], [_array(signals), _array(whole)], [_index(n) for n in names], {"0.14.1": {}})
    rebuilt, anything = Global("copy_reg", "_reconstructor"), Global("__builtin__", "object")
    manager = Global("pandas.core.internals.managers", "BlockManager")
    data = Call(rebuilt, (manager, anything, None), state)
    return Call(rebuilt, (Global("pandas.core.frame", "DataFrame"), anything, None), {"_data": data})


def write_package(path: Path, recordings: list[Recording]) -> Path:
    """Write the package's file: data frames of the recordings by person."""
    users: dict[int, list[Call]] = {}
    for recording in recordings:
        users.setdefault(recording.user, []).append(frame(recording))
    return write_pickle(path, users)


def write_pickle(path: Path, content: Any) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(emit(content) + b".")
    return path
