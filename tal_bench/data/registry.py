"""Registered datasets, and datasets described by a YAML file.

The registered datasets are declared in `tal_bench.data.datasets.presets`, one file per family.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tal_bench.config import DatasetSpec, parse_spec, read_yaml
from tal_bench.errors import DataError, InputError
from tal_bench.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DATA_ROOT = "TAL_BENCH_DATA"
"""Environment variable with the folder of downloaded datasets."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """Declaration of a dataset.

    Attributes:
        name: Name on the command line and in tables.
        summary: One line for lists.
        spec: Function that returns the spec for the dataset's folder.
        prepare: Function that generates the dataset's folder, called as
            ``prepare(cache_dir, jobs=…, progress=…)``; None for data that users download.
        folders: Candidate folders of downloaded data, relative to the data root; the first match is used.
        marker: File, relative to the folder, whose presence identifies the data.
        files: Descriptions of the files expected in the folder, one line each.
        source: Description of the values of `--source` of `data prepare`, for datasets whose ``prepare``
            reads files of the user and takes them as ``source=``; else empty.
        minute_work: Function that returns the work of extracting the features of one minute of video, as
            calls that ``tal_bench.profiling`` times on one CPU thread: ``decode``, ``flow`` (extraction of
            the privileged modalities), ``backbone/<modality>``, and alternatives to ``flow`` under names
            such as ``flow_tvl1``. None if the dataset has only features, or if their ``extraction.json``
            describes how they were extracted.
        footage: Function that returns the frames [H, W, 3] of a video by its id; None if the package has no
            access to the frames.
    """

    name: str
    summary: str
    spec: Callable[[Path], DatasetSpec]
    prepare: Callable[..., Path] | None = None
    folders: tuple[str, ...] = (".",)
    marker: str = ""
    files: tuple[str, ...] = ()
    source: str = ""
    minute_work: Callable[[], Mapping[str, Callable[[], object]]] | None = None
    footage: Callable[[str], Iterable[NDArray[np.uint8]]] | None = None


PRESETS = ("sprites", "hapt", "thumos", "activitynet", "ego4d", "epic", "hacs")
"""Modules of `tal_bench.data.datasets.presets`, in the order in which their datasets are listed."""
datasets: Registry[DatasetEntry] = Registry(
    "dataset", *(f"tal_bench.data.datasets.presets.{name}" for name in PRESETS)
)


def load_spec(
    dataset: str,
    *,
    data_root: Path | None = None,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    source: Path | None = None,
) -> DatasetSpec:
    """Return the spec of a registered dataset or of a YAML file, and generate the dataset if necessary.

    Args:
        dataset: Registered name, or path that ends in .yaml or .yml; relative paths in that file are relative
            to its folder.
        data_root: Folder of downloaded datasets; by default ``$TAL_BENCH_DATA``, else ``./data``.
        cache_dir: Folder of prepared datasets; by default the user's cache.
        jobs: Number of worker processes of the preparation.
        progress: Callback that receives (videos done, all videos) during the preparation.
        source: Files of the user from which the dataset is prepared.

    Raises:
        InputError: The name is unknown, the YAML file is malformed, or the dataset has no source.
        DataError: The dataset's files were not found.
    """
    if dataset.lower().endswith((".yaml", ".yml")) and source is None:
        return read_dataset_file(Path(dataset))
    if dataset not in datasets:
        known = ", ".join(datasets.names())
        try:
            datasets.get(dataset)
        except InputError as error:
            hint = error.hint if error.hint.startswith("did you") else f"known: {known}"
            raise InputError(error.what, hint=f"{hint}; or give the path of a .yaml file") from None
    entry = datasets.get(dataset)
    if source is not None and not entry.source:
        problem = f"dataset '{dataset}' has no source"
        raise InputError(problem, where=f"--source {source}", hint="remove the option")
    if entry.prepare is not None:
        options = {} if source is None else {"source": source}
        return entry.spec(entry.prepare(cache_dir, jobs=jobs, progress=progress, **options))
    return entry.spec(find_folder(entry, data_root))


def find_folder(entry: DatasetEntry, data_root: Path | None = None) -> Path:
    """Find the folder of a downloaded dataset.

    Raises:
        DataError: No candidate folder has the entry's marker file.
    """
    root = data_root or Path(os.environ.get(DATA_ROOT) or "data")
    for folder in entry.folders:
        if (root / folder / entry.marker).exists():
            return root / folder
    raise DataError(
        f"dataset '{entry.name}' was not found",
        where=root / entry.folders[0] / entry.marker,
        hint=f"put it there, set its location with --data-root or {DATA_ROOT}, or create a dataset file: "
        f"tal-bench data init FILE.yaml --preset {entry.name}",
    )


def notices(spec: DatasetSpec) -> list[str]:
    """Return the notices of a prepared dataset, such as its citation and the state of its licence."""
    try:
        manifest = json.loads((spec.annotations.parent / "manifest.json").read_text(encoding="utf-8"))
        return [str(line) for line in manifest.get("notices", [])]
    except (OSError, ValueError, AttributeError, TypeError):  # a folder of the user has no such manifest
        return []


def add_preset(
    summary: str, *, folders: tuple[str, ...], marker: str, files: tuple[str, ...], **fields: Any
) -> DatasetEntry:
    """Register a dataset that users download.

    Args:
        summary: One line for lists.
        folders: Candidate folders, relative to the data root.
        marker: File, relative to the folder, whose presence identifies the data.
        files: Descriptions of the expected files, one line each.
        fields: Fields of its `DatasetSpec`, with paths relative to the dataset's folder.

    Raises:
        InputError: The name is already registered, or a field is invalid.
    """
    spec = parse_spec(DatasetSpec, fields, where=f"preset '{fields.get('name')}'")
    entry = DatasetEntry(spec.name, summary, spec.at, folders=folders, marker=marker, files=files)
    return datasets.add(spec.name, entry)


def read_dataset_file(path: Path) -> DatasetSpec:
    """Read a dataset's YAML file; relative paths in it become relative to its folder.

    A file with the key `preset` overrides keys of a registered dataset whose data are in the file's folder,
    or in the folder named by the key `folder`. With another `size`, the preset's settings of networks and
    training are not used.

    Raises:
        InputError: The file is missing or not valid YAML, a key is unknown or a value is invalid.
    """
    value = read_yaml(path)
    if isinstance(value, dict) and "preset" in value:
        value = _with_preset(dict(value), path)
    return parse_spec(DatasetSpec, value, where=path).at(path.parent)


def _with_preset(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the preset's declaration with the keys of the file; paths are relative to the file's folder."""
    name, folder = value.pop("preset"), value.pop("folder", ".")
    for key, text in (("preset", name), ("folder", folder)):
        if not isinstance(text, str):
            raise InputError(f"{key}: must be a string, got {text!r}", where=path)
    try:
        entry = datasets.get(name)
    except InputError as error:
        raise InputError(error.what, where=f"{path}: preset", hint=error.hint) from None
    if entry.prepare is not None:
        hint = f"use its name instead: --dataset {name}"
        raise InputError(
            f"'{name}' is generated by the package, not a preset", where=f"{path}: preset", hint=hint
        )
    base = entry.spec(Path(folder)).model_dump(mode="json", exclude={"fingerprint"})
    if value.get("size", base["size"]) != base["size"]:
        for key in ("detector", "training", "models"):  # they apply to networks of the preset's size
            base.pop(key)
    return _merge(base, {"name": name, **value})


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the base with the changes; objects in both are merged key by key."""
    result = dict(base)
    for key, change in changes.items():
        nested = isinstance(change, dict) and isinstance(base.get(key), dict)
        result[key] = _merge(base[key], change) if nested else change
    return result
