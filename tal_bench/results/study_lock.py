"""Lock of a study's folder, and removal of the leftovers of killed processes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tal_bench.errors import InputError
from tal_bench.results.folder import StudyFolder

LOCK = "study.lock"
STALE_AFTER = 600.0
"""Seconds after which a temporary file counts as left by a killed process."""


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a study's folder. The system releases it when the process dies.

    Raises:
        InputError: Another process holds the lock, or the folder cannot be written.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another tal-bench process uses this folder{_holder(file)}",
            where=folder,
            hint="wait until it ends, or give another --reports",
        ) from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=folder) from None
    try:
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        _remove_leftovers(StudyFolder(folder))
        yield
    finally:
        file.unlink(missing_ok=True)  # waiting processes notice this and create a new file
        lock.release()


def _holder(file: Path) -> str:
    try:
        return f" ({file.read_text(encoding='utf-8')})"
    except OSError:
        return ""


def _remove_leftovers(files: StudyFolder) -> None:
    """Remove training checkpoints that no run goes on from, and temporary files of killed processes."""
    runs = files.path / "runs"
    for checkpoint in runs.glob("*.resume"):
        with suppress(InputError):  # the run of a damaged record is repeated, as a failed one is
            result = files.read_run(checkpoint.stem)
            if result is not None and result.status != "failed":
                checkpoint.unlink(missing_ok=True)
    for file in runs.glob(".*"):
        if time.time() - file.stat().st_mtime > STALE_AFTER:
            file.unlink(missing_ok=True)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM, which batch systems send before SIGKILL, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
