"""One process at a time works in a study's folder, and it tidies up after one that was killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tal_bench.errors import InputError

LOCK = "study.lock"
ABANDONED = 600.0
"""Seconds after which a file that is being written belongs to nobody any more."""


@contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a study's folder, which goes with the process, however that ends.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another tal-bench works there{_holder(file)}",
            where=folder,
            hint="wait until it has ended, or give another --reports",
        ) from None
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=folder) from None
    try:
        file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        _tidy(folder / "runs")
        yield
    finally:
        file.unlink(missing_ok=True)  # those who wait for it notice, and make a new one
        lock.release()


def _holder(file: Path) -> str:
    try:
        return f" ({file.read_text(encoding='utf-8')})"
    except OSError:
        return ""


def _tidy(runs: Path) -> None:
    """Remove what a killed process was writing, and kept states of trainings that have ended since."""
    for state in runs.glob("*.resume"):
        if state.with_suffix(".json").exists():
            state.unlink(missing_ok=True)
    for file in runs.glob(".*"):
        if time.time() - file.stat().st_mtime > ABANDONED:
            file.unlink(missing_ok=True)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """SIGTERM, which batch systems send before SIGKILL, ends a study in the way of Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
