"""Folders of prepared data in the user's cache: published atomically, prepared by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def default_cache_dir() -> Path:
    """Return ``$TAL_BENCH_CACHE`` or, by default, the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("TAL_BENCH_CACHE") or platformdirs.user_cache_dir("tal_bench"))


def publish(fresh: Path, target: Path) -> None:
    """Move a finished folder to its target, unless another process has published there in the meantime."""
    try:
        fresh.replace(target)
    except OSError:
        if not (target / "manifest.json").exists():
            shutil.rmtree(target, ignore_errors=True)
            fresh.replace(target)


def sweep(root: Path, name: str) -> None:
    """Remove leftovers of killed processes, except the ``.partial`` folder with its finished videos."""
    for folder in root.glob(f".{name}.*"):
        if folder.is_dir() and folder.suffix != ".partial":
            shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.replace(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock on a file. The system releases it when the process dies.

    Yields:
        Whether the lock is held. On systems without ``flock`` it is not: two processes may then prepare the
        same data, but every file stays intact because it is written under another name and then renamed.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield True
