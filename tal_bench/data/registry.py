"""Datasets by name, and anyone's own by a YAML file.

The declarations are in `tal_bench.data.datasets.presets`, one file per family.
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
"""Environment variable with the folder that downloaded datasets lie in."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """Declaration of a dataset.

    Attributes:
        name: as the command line and tables know it.
        summary: one line for lists.
        spec: from the dataset's folder to its spec.
        prepare: makes the folder where the package itself can make it, called as
            ``prepare(cache_dir, jobs=…, progress=…)``; none for data that the person brings.
        folders: where data that the person brings may lie below the data root, first match wins.
        marker: file, relative to the folder, whose presence says that the data are there.
        files: what is expected in the folder, one line each.
        source: what `--source` of `data prepare` may be, where ``prepare`` starts from files of the person
            and takes them as ``source=``.
        minute_work: returns the work of extracting the features of one minute of video, as calls that
            ``tal_bench.profiling`` times on one CPU thread: ``decode``, ``flow`` (extraction of the
            privileged modalities), ``backbone/<modality>``, and alternatives to ``flow`` under names such
            as ``flow_tvl1``. None where the dataset has only features, or where ``extraction.json`` beside
            them says how they were extracted.
        footage: gives the frames [H, W, 3] of a video, by its id, that its features are made of; none where
            the package has no way to them.
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


PRESETS = ("sprites", "hapt", "activitynet", "ego4d", "epic", "hacs", "thumos")
"""Modules of `tal_bench.data.datasets.presets`, in the order in which the datasets are listed."""
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
    """Return the spec of a registered dataset, prepared first where the package makes it, or of a YAML file.

    Args:
        dataset: a registered name, or a path that ends in .yaml or .yml; relative paths in that file are
            relative to its folder.
        data_root: folder with downloaded datasets; by default ``$TAL_BENCH_DATA``, else ``./data``.
        cache_dir: where prepared datasets go; by default the user's cache.
        jobs: worker processes of the preparation.
        progress: called with (videos done, videos in all) while preparing.
        source: files of the person that the dataset is made from.

    Raises:
        InputError: unknown name, the YAML file is malformed, or the dataset is not made from such files.
        DataError: the dataset's files are not where they should be.
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
        problem = f"dataset '{dataset}' takes no source"
        raise InputError(problem, where=f"--source {source}", hint="leave it out")
    if entry.prepare is not None:
        given = {} if source is None else {"source": source}
        return entry.spec(entry.prepare(cache_dir, jobs=jobs, progress=progress, **given))
    return entry.spec(find_folder(entry, data_root))


def find_folder(entry: DatasetEntry, data_root: Path | None = None) -> Path:
    """Find the folder of a dataset that the person brings.

    Raises:
        DataError: no candidate folder holds the entry's marker file.
    """
    root = data_root or Path(os.environ.get(DATA_ROOT) or "data")
    for folder in entry.folders:
        if (root / folder / entry.marker).exists():
            return root / folder
    raise DataError(
        f"dataset '{entry.name}' is not there",
        where=root / entry.folders[0] / entry.marker,
        hint=f"put it there, say where it is with --data-root or {DATA_ROOT}, or begin a dataset file: "
        f"tal-bench data init FILE.yaml --preset {entry.name}",
    )


def notices(spec: DatasetSpec) -> list[str]:
    """What a prepared dataset wants people to know: what it is, what to cite, doubts about its licence."""
    try:
        manifest = json.loads((spec.annotations.parent / "manifest.json").read_text(encoding="utf-8"))
        return [str(line) for line in manifest.get("notices", [])]
    except (OSError, ValueError, AttributeError, TypeError):  # other people's folders hold what they like
        return []


def add_preset(
    summary: str, *, folders: tuple[str, ...], marker: str, files: tuple[str, ...], **fields: Any
) -> DatasetEntry:
    """Declare a dataset that the person brings.

    Args:
        summary: as in `DatasetEntry`.
        folders: where it may lie below the data root.
        marker: file that says that it is there.
        files: that are expected, one line each.
        fields: of its `DatasetSpec`, with paths relative to the dataset's folder.

    Raises:
        InputError: the name is taken, or a field does not fit.
    """
    spec = parse_spec(DatasetSpec, fields, where=f"preset '{fields.get('name')}'")
    entry = DatasetEntry(spec.name, summary, spec.at, folders=folders, marker=marker, files=files)
    return datasets.add(spec.name, entry)


def read_dataset_file(path: Path) -> DatasetSpec:
    """Read a dataset's YAML file; relative paths in it become relative to its folder.

    A file with the key `preset` starts from a registered dataset that lies in the file's folder, or in the
    `folder` that it names, and changes what it says. Another `size` leaves the preset's settings of networks
    and their training out.

    Raises:
        InputError: missing, not YAML, an unknown key or a value that does not fit.
    """
    value = read_yaml(path)
    if isinstance(value, dict) and "preset" in value:
        value = _with_preset(dict(value), path)
    return parse_spec(DatasetSpec, value, where=path).at(path.parent)


def _with_preset(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """The preset's declaration under what the file says; paths are relative to the file's folder."""
    name, folder = value.pop("preset"), value.pop("folder", ".")
    for key, given in (("preset", name), ("folder", folder)):
        if not isinstance(given, str):
            raise InputError(f"{key}: expected a text, got {given!r}", where=path)
    try:
        entry = datasets.get(name)
    except InputError as error:
        raise InputError(error.what, where=f"{path}: preset", hint=error.hint) from None
    if entry.prepare is not None:
        hint = f"use it by its name: --dataset {name}"
        raise InputError(f"'{name}' is made by the package", where=f"{path}: preset", hint=hint)
    base = entry.spec(Path(folder)).model_dump(mode="json", exclude={"fingerprint"})
    if value.get("size", base["size"]) != base["size"]:
        for key in ("detector", "training", "models"):  # they are of networks of the preset's size
            base.pop(key)
    return merged(base, {"name": name, **value})


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Changes over a base; objects in both are merged key by key."""
    result = dict(base)
    for key, change in changes.items():
        deeper = isinstance(change, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], change) if deeper else change
    return result
