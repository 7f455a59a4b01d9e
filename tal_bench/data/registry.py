"""Datasets by name, and anyone's own by a YAML file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tal_bench.config import DatasetSpec, ModalitySpec, parse_spec, read_yaml
from tal_bench.errors import DataError, InputError
from tal_bench.registry import Registry

DATA_ROOT = "TAL_BENCH_DATA"
"""Environment variable with the folder that downloaded datasets lie in."""

COARSEST = 32
"""Stride of the last of six pyramid levels, which a padded length is a multiple of."""

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
        minute_cost: measures the CPU seconds, on one thread, of extracting the features of a minute of video:
            ``decode``, ``flow`` (what privileged modalities are made of), ``backbone/<modality>``, and other
            ways to that flow under their own names, as ``flow_tvl1``; none where there are only features.
    """

    name: str
    summary: str
    spec: Callable[[Path], DatasetSpec]
    prepare: Callable[..., Path] | None = None
    folders: tuple[str, ...] = (".",)
    marker: str = ""
    minute_cost: Callable[..., dict[str, float]] | None = None


datasets: Registry[DatasetEntry] = Registry("dataset")


def load_spec(
    dataset: str,
    *,
    data_root: Path | None = None,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> DatasetSpec:
    """Return the spec of a registered dataset, prepared first where the package makes it, or of a YAML file.

    Args:
        dataset: a registered name, or a path that ends in .yaml or .yml; relative paths in that file are
            relative to its folder.
        data_root: folder with downloaded datasets; by default ``$TAL_BENCH_DATA``, else ``./data``.
        cache_dir: where prepared datasets go; by default the user's cache.
        jobs: worker processes of the preparation.
        progress: called with (videos done, videos in all) while preparing.

    Raises:
        InputError: unknown name, or the YAML file is malformed.
        DataError: the dataset's files are not where they should be.
    """
    if dataset.lower().endswith((".yaml", ".yml")):
        return read_dataset_file(Path(dataset))
    if dataset not in datasets:
        known = ", ".join(datasets.names())
        try:
            datasets.get(dataset)
        except InputError as error:
            hint = error.hint if error.hint.startswith("did you") else f"known: {known}"
            raise InputError(error.what, hint=f"{hint}; or give the path of a .yaml file") from None
    entry = datasets.get(dataset)
    if entry.prepare is not None:
        return entry.spec(entry.prepare(cache_dir, jobs=jobs, progress=progress))
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
        hint=f"put it there, or say where it is with --data-root or {DATA_ROOT}",
    )


def read_dataset_file(path: Path) -> DatasetSpec:
    """Read a dataset's YAML file; relative paths in it become relative to its folder.

    Raises:
        InputError: missing, not YAML, an unknown key or a value that does not fit.
    """
    spec = parse_spec(DatasetSpec, read_yaml(path), where=path)
    base = path.parent
    modalities = {
        name: modality.model_copy(update={"folder": base / modality.folder.expanduser()})
        for name, modality in spec.modalities.items()
    }
    annotations = base / spec.annotations.expanduser()
    return spec.model_copy(update={"annotations": annotations, "modalities": modalities})


def _prepare_sprites(cache_dir: Path | None, *, jobs: int = 1, progress: Progress | None = None) -> Path:
    from tal_bench.data.sprites.prepare import prepare

    return prepare(cache_dir, jobs=jobs, progress=progress)


def _sprites(folder: Path) -> DatasetSpec:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    database = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["database"]
    rate = manifest["fps"] / manifest["stride"]
    longest = max(video["duration"] * rate for video in database.values())
    channels: dict[str, int] = manifest["channels"]
    return DatasetSpec(
        name="sprites",
        annotations=folder / "annotations.json",
        modalities={
            "rgb": ModalitySpec(role="primary", folder=folder / "rgb", channels=channels["rgb"]),
            "flow": ModalitySpec(role="privileged", folder=folder / "flow", channels=channels["flow"]),
        },
        stride=manifest["stride"],
        window=manifest["window"],
        max_length=math.ceil(longest / COARSEST) * COARSEST,
        size="small",
    )


def _sprites_minute_cost() -> dict[str, float]:
    from tal_bench.data.sprites.cost import minute_cost

    cost = minute_cost("dis")
    return {
        "decode": cost["decode"],
        "flow": cost["flow"],
        "flow_tvl1": minute_cost("tvl1")["flow"],
        "backbone/rgb": cost["rgb_backbone"],
        "backbone/flow": cost["flow_backbone"],
    }


def _thumos14(folder: Path) -> DatasetSpec:
    def stream(role: Literal["primary", "privileged"], first: int) -> ModalitySpec:
        return ModalitySpec(
            role=role,
            folder=folder / "i3d_features",
            channels=1024,
            columns=(first, first + 1024),
            nonnegative=True,
        )

    return DatasetSpec(
        name="thumos14",
        annotations=folder / "annotations" / "thumos14.json",
        modalities={"rgb": stream("primary", 0), "flow": stream("privileged", 1024)},
        stride=4,
        window=16,
        train=("validation",),
        test=("test",),
        max_length=2304,
    )


datasets.add(
    "sprites",
    DatasetEntry(
        "sprites",
        "rendered videos of moving shapes, made on this machine; appearance in RGB, direction in flow",
        _sprites,
        prepare=_prepare_sprites,
        minute_cost=_sprites_minute_cost,
    ),
)
datasets.add(
    "thumos14",
    DatasetEntry(
        "thumos14",
        "THUMOS14 with two-stream I3D features in ActionFormer's layout, 20 classes",
        _thumos14,
        folders=("thumos", "thumos14", "."),
        marker="annotations/thumos14.json",
    ),
)
