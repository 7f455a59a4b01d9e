"""Where runs are computed: in this process, or in local worker processes with one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import torch

from tal_bench.processes import Workers


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
    return Workers(jobs, _start_worker, (device, tuple(plugins)))


def _start_worker(device: str, plugins: tuple[Path, ...]) -> None:
    """Set a worker up: one thread, plugins loaded."""
    if device == "cpu":
        torch.set_num_threads(1)
    from tal_bench.plugins import load_plugins

    load_plugins(plugins)
