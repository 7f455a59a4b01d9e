"""Worker processes that behave: deaf to Ctrl-C, which is this process's affair, and gone when it is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any


class Workers(ProcessPoolExecutor):
    """Local processes that leave Ctrl-C, which a terminal sends to all of them, to this one.

    Args:
        jobs: processes.
        initializer: called in each before its first work, with ``initargs``.
        initargs: its arguments.
    """

    def __init__(
        self, jobs: int, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
    ) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(
            jobs, mp_context=context, initializer=_start_worker, initargs=(initializer, initargs)
        )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a call over; starts a process when none is idle."""
        with _interrupts_held_back():
            return super().submit(fn, *args, **kwargs)

    def abandon(self) -> None:
        """End the processes now, whatever they compute."""
        processes = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, not even while they import; here it comes afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it would let interrupts through
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _start_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _follow_parent() -> None:
    """Leave when the parent dies, be it by SIGKILL, instead of computing for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
