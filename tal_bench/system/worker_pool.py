"""Worker processes that behave: deaf to Ctrl-C, which is this process's affair, and gone when it is.

One that dies before that costs the call that it was at, which another does again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from queue import SimpleQueue
from typing import Any

from tal_bench.errors import TalBenchError

ATTEMPTS = 3
"""How often a call is tried whose worker dies."""


class WorkerLostError(TalBenchError):
    """A call's worker died each time that it was tried."""


class WorkerPool(Executor, ABC):
    """An executor that says how many calls it computes at a time, and can be left at once."""

    @abstractmethod
    def size(self) -> int:
        """Workers that are there now, at least 1."""

    @abstractmethod
    def terminate(self) -> None:
        """Give up what is still computed."""


class SpawnedProcesses(ProcessPoolExecutor):
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
        with interrupts_held_back():
            return super().submit(fn, *args, **kwargs)

    def terminate(self) -> None:
        """End the processes now, whatever they compute."""
        processes = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


class LocalWorkerPool(ThreadPoolExecutor, WorkerPool):
    """Local processes; a thread looks after each of them, and replaces it when it dies.

    Args:
        jobs: processes.
        initializer: called in each before its first work, with ``initargs``.
        initargs: its arguments.
    """

    def __init__(
        self, jobs: int, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(jobs, thread_name_prefix="worker")
        self._jobs = jobs
        self._start = (initializer, initargs)
        self._lock, self._terminated = threading.Lock(), False
        self._every = {SpawnedProcesses(1, *self._start) for _ in range(jobs)}
        self._idle: SimpleQueue[SpawnedProcesses] = SimpleQueue()
        for worker in self._every:
            self._idle.put(worker)

    def size(self) -> int:
        """All of them, as dead ones are replaced."""
        return self._jobs

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a call over.

        Its future may raise `WorkerLostError`.
        """
        return super().submit(self._supervise, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes when they have done what they were given."""
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        for worker in self._every:
            worker.shutdown(wait=wait)

    def terminate(self) -> None:
        """End the processes now, whatever they compute."""
        with self._lock:
            self._terminated = True
            for worker in self._every:
                worker.terminate()
        super().shutdown(wait=False, cancel_futures=True)

    def _replace(self, dead: SpawnedProcesses) -> SpawnedProcesses:
        """A new worker for a dead one; after `terminate` none that works."""
        dead.shutdown(wait=False)
        with self._lock:
            self._every.discard(dead)
            worker = SpawnedProcesses(1, *self._start)
            self._every.add(worker)
            if self._terminated:
                worker.terminate()
        return worker

    def _supervise(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        worker = self._idle.get()
        try:
            for _ in range(ATTEMPTS):
                try:
                    return worker.submit(fn, *args, **kwargs).result()
                except BrokenProcessPool:
                    worker = self._replace(worker)
            raise WorkerLostError(f"its worker process died {ATTEMPTS} times")
        finally:
            self._idle.put(worker)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
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
