"""Atomic writing of files."""

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
FULL = (errno.ENOSPC, errno.EDQUOT)
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between attempts to write on a disk that is full."""


def write_atomically(path: Path, content: str | bytes, *, pauses: Sequence[float] = PAUSES) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: of the file; its directory is made.
        content: whole.
        pauses: seconds to wait before every further attempt while the disk is full.

    Raises:
        DiskFullError: it still is.
        InputError: the directory cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    for pause in (*pauses, None):
        try:
            return _write(path, data)
        except OSError as error:
            if error.errno not in FULL:
                raise InputError(f"cannot be written: {error.strerror}", where=path) from None
            if pause is None:
                raise DiskFullError("the disk is full", where=path, hint="make room, run again") from None
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
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp makes files private; results are to be shared
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(directory: Path) -> None:
    """Find out now, not after an hour, whether results can be written.

    Raises:
        InputError: they cannot.
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
