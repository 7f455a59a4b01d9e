"""Where runs are computed: in this process, in local worker processes, or in the workers of a Dask scheduler.

All of them are `concurrent.futures.Executor`s, and none of them changes a result: every CPU worker trains on
one thread. A worker that dies costs the run that it was at, which is done again by another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tal_bench.execution.worker import prepare_worker
from tal_bench.system.worker_pool import LocalWorkerPool, WorkerPool


class InProcessPool(WorkerPool):
    """Runs a call at once, when it is submitted."""

    def size(self) -> int:
        """One call."""
        return 1

    def terminate(self) -> None:
        """Nothing is computed between two calls."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call, and return the outcome as a future that is done."""
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
    """Choose: this process, processes of its own, or the workers of a Dask scheduler.

    Args:
        jobs: workers on this machine; one worker is this process.
        device: that they compute on.
        plugins: files to load in every worker.
        scheduler: address of a Dask scheduler, or `local` for one of our own with so many workers.
        folder: of the study, which a scheduler's workers must see.

    Raises:
        InputError: the scheduler cannot be used.
    """
    if scheduler is not None and folder is not None:
        from tal_bench.execution.dask_workers import DaskWorkerPool

        return DaskWorkerPool(scheduler, jobs, device, plugins, folder)
    if jobs == 1:
        prepare_worker(device, ())
        return InProcessPool()
    return LocalWorkerPool(jobs, prepare_worker, (device, tuple(plugins)))
