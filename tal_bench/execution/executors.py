"""Executors of runs: this process, local worker processes, or the workers of a Dask scheduler.

All pools are `concurrent.futures.Executor`s. The choice does not change results, because every CPU worker
trains on one thread. The run of a worker that dies is repeated by another worker.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tal_bench.execution.registry import ExecutorEntry, WorkerSetup, executors, find_executor
from tal_bench.system.worker_pool import LocalWorkerPool, WorkerPool


class InProcessPool(WorkerPool):
    """Executor that makes each call in this process when it is submitted."""

    def size(self) -> int:
        """Return 1."""
        return 1

    def terminate(self) -> None:
        """Do nothing, as no call is pending between two submissions."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Make the call and return its outcome as a completed future."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def make_executor(setup: WorkerSetup) -> WorkerPool:
    """Start the workers of a study.

    Raises:
        InputError: The executor is unknown or cannot be used.
    """
    return find_executor(setup.address or None, setup.jobs, setup.device).make(setup)


def _in_process(setup: WorkerSetup) -> WorkerPool:
    setup.prepare()
    return InProcessPool()


def _dask(setup: WorkerSetup) -> WorkerPool:
    from tal_bench.execution.dask_workers import DaskWorkerPool

    return DaskWorkerPool(setup)


executors.add(
    "in-process", ExecutorEntry("in-process", "this process, one run at a time", _in_process, workers="one")
)
executors.add(
    "processes",
    ExecutorEntry(
        "processes",
        "--jobs processes on this machine",
        lambda setup: LocalWorkerPool(setup.jobs, setup.prepare, environments=setup.environments()),
    ),
)
executors.add("local", ExecutorEntry("local", "a Dask scheduler started here, with --jobs workers", _dask))
for scheme in ("tcp", "tls"):
    summary = f"the workers of a running Dask scheduler, {scheme}://HOST:PORT"
    executors.add(scheme, ExecutorEntry(scheme, summary, _dask, workers="elsewhere"))
