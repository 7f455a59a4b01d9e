"""Where runs are computed: in this process, or in local worker processes with one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch


class InProcess(Executor):
    """Runs a call at once, when it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call, and return the outcome as a future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Workers(ProcessPoolExecutor):
    """Local processes that leave Ctrl-C, which a terminal sends to all of them, to this one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a call over; starts a process when none is idle."""
        with _interrupts_held_back():
            return super().submit(fn, *args, **kwargs)

    def abandon(self) -> None:
        """End the processes now, whatever they compute; finished runs are on disk."""
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


def abandon(executor: Executor) -> None:
    """Give up what an executor still computes."""
    if isinstance(executor, Workers):
        executor.abandon()
    else:
        executor.shutdown(wait=False, cancel_futures=True)


def make_executor(jobs: int, device: str, plugins: Sequence[Path]) -> Executor:
    """Executor with so many workers; one worker is this process.

    Args:
        jobs: workers.
        device: on `cpu` every worker trains on one thread, so that results do not depend on ``jobs``.
        plugins: files to load in every worker.
    """
    if jobs == 1:
        if device == "cpu":
            torch.set_num_threads(1)
        return InProcess()
    return Workers(
        max_workers=jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(device, tuple(plugins)),
    )


def _start_worker(device: str, plugins: tuple[Path, ...]) -> None:
    """Set a worker up: one thread, plugins loaded, and gone when its parent is."""
    if device == "cpu":
        torch.set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()
    from tal_bench.plugins import load_plugins

    load_plugins(plugins)


def _follow_parent() -> None:
    """Leave when the parent dies, be it by SIGKILL, instead of computing for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
