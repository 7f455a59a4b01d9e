"""Worker processes that ignore Ctrl-C and exit when the parent process exits or dies.

A call whose worker process dies, or declares itself unusable, is retried in another process. A worker that
cannot open its device tries again in fresh processes; if none of them can, it is given up, and the others do
its calls.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import cycle, islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from queue import SimpleQueue
from typing import Any

from tal_bench.errors import TalBenchError
from tal_bench.system.allocator import collect_garbage_rarely

LOG = logging.getLogger(__name__)
ATTEMPTS = 3
"""Number of attempts of a call whose worker process dies."""
OPENING_PAUSES = (1.0, 5.0, 15.0)
"""Seconds before each further attempt to open a device, which an ended process may hold for a moment."""


class WorkerLostError(TalBenchError):
    """The worker process of a call died at every attempt."""


class UnusableWorkerError(TalBenchError):
    """The worker process of a call cannot make further calls, and has to be replaced."""


class UnopenedDeviceError(UnusableWorkerError):
    """The worker process of a call cannot open its device; if its pool raises this, no worker can."""


class WorkerPool(Executor, ABC):
    """Executor that reports its number of workers and can be terminated at once."""

    @abstractmethod
    def size(self) -> int:
        """Return the current number of workers, at least 1."""

    @abstractmethod
    def terminate(self) -> None:
        """End the pool at once and drop unfinished calls."""


class SpawnedProcesses(ProcessPoolExecutor):
    """Pool of spawned processes that ignore Ctrl-C, which a terminal sends to all processes of a command.

    Args:
        jobs: Number of processes.
        initializer: Function called in each process before its first call, with ``initargs``.
        initargs: Arguments of ``initializer``.
        environment: Environment variables that are set in each process before that.
    """

    def __init__(
        self,
        jobs: int,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        arguments = (dict(environment or {}), initializer, initargs)
        super().__init__(jobs, mp_context=context, initializer=_start_worker, initargs=arguments)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call; starts a process if none is idle."""
        with interrupts_blocked():
            return super().submit(fn, *args, **kwargs)

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> bool | None:
        """Wait for the processes to end; after an interrupt, terminate them."""
        if kind is not None and not issubclass(kind, Exception):
            self.terminate()
        return super().__exit__(kind, *error)

    def terminate(self) -> None:
        """Terminate the processes at once and drop unfinished calls."""
        processes = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


class LocalWorkerPool(ThreadPoolExecutor, WorkerPool):
    """Pool of local processes. A thread supervises each process and replaces it when it dies.

    Args:
        jobs: Number of processes.
        initializer: Function called in each process before its first call, with ``initargs``.
        initargs: Arguments of ``initializer``.
        environments: Environment variables of the processes, in turn; none by default.
    """

    def __init__(
        self,
        jobs: int,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        environments: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(jobs, thread_name_prefix="worker")
        self._process_init = (initializer, initargs)
        self._lock, self._terminated = threading.Lock(), threading.Event()
        self._without_device: UnopenedDeviceError | None = None
        self._environments = {
            SpawnedProcesses(1, *self._process_init, variables): variables
            for variables in islice(cycle(environments or [{}]), jobs)
        }
        self._idle: SimpleQueue[SpawnedProcesses] = SimpleQueue()
        for worker in self._environments:
            self._idle.put(worker)

    def size(self) -> int:
        """Return the number of processes; dead ones are replaced, those without a device are given up."""
        return len(self._environments)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call.

        The future raises `WorkerLostError` if the process died at every attempt, and `UnopenedDeviceError` if
        no worker can open its device.
        """
        return super().submit(self._supervise, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes after their pending calls."""
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        for worker in self._environments:
            worker.shutdown(wait=wait)

    def terminate(self) -> None:
        """Terminate the processes at once and drop unfinished calls."""
        self._terminated.set()
        with self._lock:
            for worker in self._environments:
                worker.terminate()
        super().shutdown(wait=False, cancel_futures=True)

    def _replace(self, dead: SpawnedProcesses) -> SpawnedProcesses:
        """Return a new worker for a dead or useless one; after `terminate` it is terminated as well."""
        dead.terminate()
        with self._lock:
            environment = self._environments.pop(dead)
            worker = SpawnedProcesses(1, *self._process_init, environment)
            self._environments[worker] = environment
            if self._terminated.is_set():
                worker.terminate()
        return worker

    def _give_up(self, worker: SpawnedProcesses, error: UnopenedDeviceError) -> None:
        """Give a worker up that cannot open its device.

        Raises:
            UnopenedDeviceError: It is the last one.
        """
        with self._lock:
            if len(self._environments) == 1:
                self._without_device = error
                raise error
            del self._environments[worker]
        worker.terminate()
        LOG.warning("a worker is given up, and others do its runs: %s", error)

    def _supervise(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        worker = self._idle.get()
        died, attempts, pauses = f"the worker process died {ATTEMPTS} times", 0, iter(OPENING_PAUSES)
        try:
            while attempts < ATTEMPTS:
                if self._without_device is not None:
                    raise self._without_device
                try:
                    return worker.submit(fn, *args, **kwargs).result()
                except UnopenedDeviceError as error:
                    if (pause := next(pauses, None)) is not None:
                        self._terminated.wait(pause)
                        worker = self._replace(worker)
                        continue
                    self._give_up(worker, error)
                    worker, pauses = self._idle.get(), iter(OPENING_PAUSES)
                    continue
                except BrokenProcessPool:
                    why = died
                except UnusableWorkerError as error:
                    why = f"{ATTEMPTS} attempts in fresh processes failed, the last with {error}"
                attempts += 1
                worker = self._replace(worker)
            raise WorkerLostError(why)
        finally:
            self._idle.put(worker)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT in this thread until the end of the context.

    Processes started in the context inherit the blocked signal and so ignore Ctrl-C from their start. In this
    process a blocked interrupt is delivered at the end of the context.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it within the context would unblock SIGINT
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _start_worker(
    environment: Mapping[str, str], initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    collect_garbage_rarely()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _exit_with_parent() -> None:
    """Exit when the parent process dies, including by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
