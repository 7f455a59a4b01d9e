"""Atomic writes, checks of writability, and short names of paths."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tal_bench.errors import DiskFullError, InputError

LOG = logging.getLogger(__name__)
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between attempts to write to a full disk."""


def write_atomically(path: Path, content: str | bytes, *, pauses: Sequence[float] = PAUSES) -> None:
    """Write a file atomically: readers see the old or the new content, never a part of it.

    Args:
        path: Path of the file; missing directories are created.
        content: Full content of the file.
        pauses: Seconds to wait before each further attempt while the disk is full.

    Raises:
        DiskFullError: The disk is still full after the last attempt.
        InputError: The file cannot be written for another reason.
    """
    data = content.encode() if isinstance(content, str) else content
    for pause in (*pauses, None):
        try:
            return _write(path, data)
        except OSError as error:
            if error.errno not in DISK_FULL_ERRORS:
                raise InputError(f"cannot be written: {error.strerror}", where=path) from None
            if pause is None:
                raise DiskFullError("the disk is full", where=path, hint="free space and run again") from None
            if pause == pauses[0]:
                LOG.warning("%s: the disk is full; trying again for %.0f s", path, sum(pauses))
            time.sleep(pause)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp creates private files, but results are shared
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(directory: Path) -> None:
    """Check that results can be written, so that a study fails at its start and not at its end.

    Raises:
        InputError: The directory cannot be written.
    """
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        if not existing.is_dir():
            raise NotADirectoryError(0, f"{existing} is not a directory")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or "permission denied"
        raise InputError(f"cannot be written: {reason}", where=f"--reports {directory}") from None


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """Return the last parts of distinct paths, as many as they need to have different names."""
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
