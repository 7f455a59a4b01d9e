"""The validation part that tuning looks at, and the fingerprint that tells one dataset from another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import read_annotations
from tal_bench.data.features import check_hint, feature_path
from tal_bench.errors import DataError

EDGE = 64 * 1024
"""Bytes at either end of a feature file that enter its fingerprint."""


def validation_ids(ids: Sequence[str], fraction: float) -> frozenset[str]:
    """Choose the videos that tuning holds out of training.

    The choice depends on the set of names alone, neither on their order nor on any seed, so that every run
    of a dataset validates on the same videos. Videos are ranked by the hash of their name and the first
    ``fraction`` of them chosen: at least one, and at least one is left.

    Raises:
        DataError: fewer than two videos.
    """
    if len(ids) < 2:
        raise DataError(
            f"{len(ids)} training video, cannot hold out a validation part", hint="need 2 or more"
        )
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"validation/{name}".encode()).digest())
    count = min(max(round(len(ids) * fraction), 1), len(ids) - 1)
    return frozenset(ranked[:count])


def fingerprint(spec: DatasetSpec) -> str:
    """Hash a dataset's content, wherever its files lie.

    It covers the bytes of the annotation file and, for every stream of every video of the training and test
    subsets, the file's name, its size and its first and last 64 KiB: enough to notice another extraction, and
    fast for data of any size.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    annotations = read_annotations(spec.annotations, fps=spec.fps)
    total = hashlib.sha256(spec.annotations.read_bytes())
    videos = sorted(video.id for video in annotations.of((*spec.train, *spec.test)))
    for name in sorted(spec.modalities):
        modality = spec.modalities[name]
        for video in videos:
            path = feature_path(modality, video)
            total.update(f"{name}/{path.name}".encode())
            try:
                total.update(_edges(path))
            except FileNotFoundError:
                raise DataError("missing feature file", where=path, hint=check_hint(spec)) from None
            except OSError as error:
                raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    return total.hexdigest()[:16]


def _edges(path: Path) -> bytes:
    """Digest of a file's size and both its ends."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE))
        if size > EDGE:
            file.seek(max(size - EDGE, EDGE))
            digest.update(file.read(EDGE))
    return digest.digest()


def with_fingerprint(spec: DatasetSpec) -> DatasetSpec:
    """Return the spec with its content hash filled in.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    return spec.model_copy(update={"fingerprint": fingerprint(spec)})
