"""Folders of prepared data in the user's cache: whole or not there, and made by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def default_cache_dir() -> Path:
    """``$TAL_BENCH_CACHE``, or the user's cache directory."""
    import platformdirs

    return Path(os.environ.get("TAL_BENCH_CACHE") or platformdirs.user_cache_dir("tal_bench"))


def publish(fresh: Path, target: Path) -> None:
    """Move the finished folder into place, unless another process has put its own there meanwhile."""
    try:
        fresh.replace(target)
    except OSError:
        if not (target / "manifest.json").exists():
            shutil.rmtree(target, ignore_errors=True)
            fresh.replace(target)


def sweep(root: Path, name: str) -> None:
    """Remove what a killed process left, except the finished videos in the ``.partial`` folder."""
    for left in root.glob(f".{name}.*"):
        if left.is_dir() and left.suffix != ".partial":
            shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.replace(path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file while preparing; the system drops it when a process dies.

    Where the system has no ``flock`` nothing is held, and False is given: two processes then do the same
    work twice, each file still whole, because every one is written aside and renamed.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield True
