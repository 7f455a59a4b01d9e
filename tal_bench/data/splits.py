"""Fingerprint of the content of a dataset."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tal_bench.config import DatasetSpec
from tal_bench.data.annotations import read_labels
from tal_bench.data.features import check_hint, feature_paths
from tal_bench.data.selection import select
from tal_bench.errors import DataError

EDGE = 64 * 1024
"""Number of bytes at each end of a feature file that are hashed."""


def fingerprint(spec: DatasetSpec) -> str:
    """Hash a dataset's content, independent of the location of its files.

    The hash covers the bytes of the annotation file and of external scores and, for every stream of every
    selected video, the file's name, its size and its first and last 64 KiB. This detects another extraction
    and is fast for data of any size.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    selection = select(spec, read_labels(spec))
    total = hashlib.sha256(spec.annotations.read_bytes())
    if spec.scores is not None:
        total.update(_bytes(spec.scores))
    videos = sorted(video.id for video in (*selection.training, *selection.test))
    for name in sorted(spec.modalities):
        modality = spec.modalities[name]
        for video in videos:
            for path in feature_paths(modality, video):
                total.update(f"{name}/{path.name}".encode())
                total.update(_edges(path, spec))
    return total.hexdigest()[:16]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = "put it there, or set 'scores: null' to train on the dataset's classes"
        raise DataError("missing file of video-level scores", where=path, hint=hint) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None


def _edges(path: Path, spec: DatasetSpec) -> bytes:
    """Return the digest of a file's size and of both its ends."""
    try:
        size = path.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with path.open("rb") as file:
            digest.update(file.read(EDGE))
            if size > EDGE:
                file.seek(max(size - EDGE, EDGE))
                digest.update(file.read(EDGE))
        return digest.digest()
    except FileNotFoundError:
        raise DataError("missing feature file", where=path, hint=check_hint(spec)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None


def with_fingerprint(spec: DatasetSpec) -> DatasetSpec:
    """Return the spec with its content hash filled in.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    return spec.model_copy(update={"fingerprint": fingerprint(spec)})
