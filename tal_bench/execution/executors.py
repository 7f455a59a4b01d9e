"""Worker pools for runs: this process, local worker processes, or the workers of a Dask scheduler.

All are `concurrent.futures.Executor`s. The choice does not change results, because every CPU worker trains on
one thread. The run of a worker that dies is repeated by another worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tal_bench.execution.worker import prepare_worker
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


def make_executor(
    jobs: int,
    device: str,
    plugins: Sequence[Path],
    *,
    scheduler: str | None = None,
    folder: Path | None = None,
) -> WorkerPool:
    """Create a worker pool.

    Args:
        jobs: Number of workers on this machine; 1 is this process.
        device: Device of the workers, `cpu` or `cuda`.
        plugins: Plugin files to load in every worker.
        scheduler: Address of a Dask scheduler, `local` to start one with ``jobs`` workers, or None for no
            scheduler.
        folder: Folder of the study, which the workers of a scheduler must be able to read.

    Raises:
        InputError: The scheduler cannot be used.
    """
    if scheduler is not None and folder is not None:
        from tal_bench.execution.dask_workers import DaskWorkerPool

        return DaskWorkerPool(scheduler, jobs, device, plugins, folder)
    if jobs == 1:
        prepare_worker(device, ())
        return InProcessPool()
    return LocalWorkerPool(jobs, prepare_worker, (device, tuple(plugins)))
