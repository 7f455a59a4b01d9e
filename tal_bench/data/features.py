"""Reading of feature files: `.npy` (memory-mapped), `.npz` or `.pt`, one array [T, C] per file."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.data.feature_grid import resized
from tal_bench.errors import DataError

SLACK_STEPS = 2
"""Largest difference in length of the streams of a video, which are cut to the shortest."""

ARRAY_NAMES = ("features", "feats", "feat")
"""Names of the feature array in an archive of several arrays, after the name of the stream."""


def feature_path(modality: ModalitySpec, video: str) -> Path:
    """Return the file of a video's stream, or the first of several files."""
    return modality.folder / f"{modality.prefix}{video}{modality.suffix}"


def feature_paths(modality: ModalitySpec, video: str) -> tuple[Path, ...]:
    """Return all files of a video's stream, in the order in which their channels are concatenated."""
    first = feature_path(modality, video)
    return (first, *(folder / first.name for folder in modality.also))


def check_hint(spec: DatasetSpec) -> str:
    """Return the hint of errors about feature files."""
    from tal_bench.data.registry import datasets

    name = spec.name if spec.name in datasets else "FILE.yaml"
    return f"'tal-bench data check {name}' lists every such file"


def load_array(path: Path, stream: str = "") -> NDArray[Any]:
    """Load the array of a feature file. `.npy` files are memory-mapped; pickles are never loaded.

    Args:
        path: A `.npy`, `.npz`, `.pt` or `.pth` file.
        stream: Name of the stream, to choose among several arrays of an archive.

    Raises:
        DataError: The file is missing, empty, truncated or of an unknown type, or it is unclear which array
            to load. Its `kind` is `missing`, `empty`, `truncated` or `refused` (a pickle), or unknown.
    """
    suffix = path.suffix.lower()
    loader = {".npy": _load_npy, ".npz": _load_npz, ".pt": _load_pt, ".pth": _load_pt}.get(suffix)
    if loader is None:
        raise DataError(f"unknown feature file type '{path.suffix}'", where=path, hint="use npy, npz or pt")
    try:
        if path.is_dir():
            raise DataError("cannot be read: Is a directory", where=path)
        if path.stat().st_size == 0:
            raise DataError("empty file (0 bytes)", where=path, kind="empty")
        with warnings.catch_warnings():
            # torch warns of pickles, which it rejects, and numpy of headers by Python 2, which it reads
            warnings.simplefilter("ignore")
            value = loader(path)
    except FileNotFoundError:
        raise DataError("missing feature file", where=path, kind="missing") from None
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from None
    except Exception as error:
        raise _unreadable(path, error) from None
    if isinstance(value, dict):
        value = _choose(value, path, stream)
    if not isinstance(value, np.ndarray):
        raise DataError(f"contains a {type(value).__name__}, expected an array [T, C]", where=path)
    return value


def _unreadable(path: Path, error: Exception) -> DataError:
    """Return the error for a file that numpy, zipfile or torch could not load."""
    text = str(error).strip()
    if re.search(r"Object arrays|Python objects|GLOBAL|Unsupported class", text) or (
        path.suffix.lower() == ".npy" and _starts_with(path, b"\x80")
    ):
        hint = "save only the array, with numpy.save or torch.save"
        what = "refused: a pickle of Python objects, which can run code"
        return DataError(what, where=path, hint=hint, kind="refused")
    if isinstance(error, pickle.UnpicklingError) or "pickled data" in text:
        text = "invalid content"
    reason = text.split("\n")[0][:160] or type(error).__name__
    return DataError(f"truncated or not a {path.suffix} file: {reason}", where=path, kind="truncated")


def _starts_with(path: Path, prefix: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(prefix)) == prefix


def _load_npy(path: Path) -> Any:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _load_npz(path: Path) -> Any:
    if not zipfile.is_zipfile(path):
        raise DataError("truncated or not a .npz file", where=path, kind="truncated")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _load_pt(path: Path) -> Any:
    import torch

    value = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(value, dict):
        return {str(k): _to_numpy(v) for k, v in value.items() if isinstance(v, torch.Tensor)}
    return _to_numpy(value) if isinstance(value, torch.Tensor) else value


def _to_numpy(tensor: Any) -> NDArray[Any]:
    import torch

    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _choose(arrays: dict[str, Any], path: Path, stream: str) -> Any:
    names = [stream, *ARRAY_NAMES] if len(arrays) > 1 else list(arrays)
    for name in names:
        if name in arrays:
            return arrays[name]
    raise DataError(
        f"contains {len(arrays)} arrays ({', '.join(sorted(arrays)[:6])}), unclear which has the features",
        where=path,
        hint=f"rename one of them to '{stream or 'features'}'",
    )


def stream_problem(array: NDArray[Any], modality: ModalitySpec) -> tuple[str, str] | None:
    """Check type and shape of a loaded array; return kind and description of the first problem, or None."""
    if not np.issubdtype(array.dtype, np.floating):
        return "dtype", f"dtype {array.dtype}, expected float16 or float32"
    if array.ndim != 2:
        return "width", f"shape {list(array.shape)}, expected [T, {modality.channels}]"
    if array.shape[0] == 0:
        return "empty", f"no time steps, shape {list(array.shape)}"
    width = array.shape[1]
    if modality.columns is not None:
        if width < modality.columns[1]:
            return "width", f"{width} channels, columns {list(modality.columns)} need {modality.columns[1]}"
    elif width != modality.channels:
        transposed = "; it looks transposed" if array.shape[0] == modality.channels else ""
        return "width", f"{width} channels, expected {modality.channels}{transposed}"
    return None


def open_streams(
    spec: DatasetSpec,
    video: str,
    names: Sequence[str],
    instead: Mapping[Path, NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Open a video's streams without reading `.npy` data, downsampled and cut to their common length.

    Args:
        spec: Dataset.
        video: Id of the video.
        names: Names of the streams.
        instead: Arrays by file, used in place of the files' content.

    Returns:
        Array [T, C] by stream, in the dtype of the file and memory-mapped if possible.

    Raises:
        DataError: A file is missing or malformed, or lengths differ by more than `SLACK_STEPS`.
    """
    loaded = dict(instead or {})
    streams = {name: _open(spec, name, video, loaded) for name in names}
    lengths = {name: len(array) for name, array in streams.items()}
    return {name: array[: _common_length(spec, video, lengths)] for name, array in streams.items()}


def _open(spec: DatasetSpec, name: str, video: str, loaded: dict[Path, NDArray[Any]]) -> NDArray[Any]:
    """Open one stream; ``loaded`` caches arrays that several streams share."""
    modality = spec.modalities[name]
    parts: dict[Path, NDArray[Any]] = {}
    for path in feature_paths(modality, video):
        try:
            array = loaded[path] if path in loaded else load_array(path, name)
        except DataError as error:
            raise DataError(error.what, where=error.where, hint=error.hint or check_hint(spec)) from None
        if path.suffix == ".npy":
            loaded[path] = array  # of an archive, each stream may use another array
        parts[path] = array
    if problem := parts_problem(parts, modality):
        raise DataError(problem[1], where=next(iter(parts)), hint=check_hint(spec))
    if len(parts) > 1:
        shortest = _common_length(spec, video, {str(path): len(array) for path, array in parts.items()})
        array = np.concatenate([array[:shortest] for array in parts.values()], axis=1)
    elif modality.columns is not None:
        array = array[:, slice(*modality.columns)]
    return array[:: spec.downsample]


def parts_problem(parts: dict[Path, NDArray[Any]], modality: ModalitySpec) -> tuple[str, str] | None:
    """Check type and shape of the arrays of all files of a stream, as `stream_problem`."""
    arrays = list(parts.values())
    if len(arrays) == 1:
        return stream_problem(arrays[0], modality)
    for path, array in parts.items():
        width = array.shape[1] if array.ndim == 2 else 0
        if problem := stream_problem(array, modality.model_copy(update={"channels": width, "columns": None})):
            return problem[0], f"{path.parent.name}: {problem[1]}"
    widths = [array.shape[1] for array in arrays]
    if sum(widths) != modality.channels:
        shown = " + ".join(map(str, widths))
        return "width", f"{shown} channels in {len(widths)} folders, expected {modality.channels}"
    return None


def _common_length(spec: DatasetSpec, video: str, lengths: dict[str, int]) -> int:
    shortest = min(lengths.values(), default=0)
    if max(lengths.values(), default=0) - shortest > SLACK_STEPS:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"streams differ in length ({shown} steps)", where=f"video '{video}'", hint=check_hint(spec)
        )
    return shortest


def to_float32(array: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """Read an array into memory as contiguous float32.

    Raises:
        DataError: A value is NaN or infinite.
    """
    values = np.array(array, dtype=np.float32, order="C")
    # The sum needs one pass and no temporary array; the exact test runs only if the sum is not finite.
    with np.errstate(all="ignore"):
        suspicious = not np.isfinite(values.sum())
    if suspicious and not (finite := np.isfinite(values)).all():
        step, channel = (int(i) for i in np.argwhere(~finite)[0])
        bad = int(finite.size - finite.sum())
        raise DataError(
            f"{bad} NaN or infinite value{'s' if bad > 1 else ''}, first at step {step}, channel {channel}",
            where=path,
            hint="extract this file again",
        )
    return values


def read_features(spec: DatasetSpec, video_id: str, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read a video's streams into memory, resized if the dataset's spec says so.

    Returns:
        Contiguous float32 array [T, C] by stream, with the same T for all streams.

    Raises:
        DataError: A file is missing, malformed or has NaN values, or lengths differ by more than
            `SLACK_STEPS`.
    """
    return in_memory(spec, video_id, open_streams(spec, video_id, names))


def in_memory(
    spec: DatasetSpec, video_id: str, streams: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Read opened streams into memory, with the same result as `read_features`.

    Raises:
        DataError: A value is NaN or infinite.
    """
    read = {
        name: to_float32(array, feature_path(spec.modalities[name], video_id))
        for name, array in streams.items()
    }
    if spec.resize is None:
        return read
    return {name: resized(values, spec.resize) for name, values in read.items()}
