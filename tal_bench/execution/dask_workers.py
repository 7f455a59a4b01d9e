"""Runs in the workers of a Dask scheduler, on this machine or on many.

Dask schedules, watches its workers and gives the run of a dead one to another. The study's folder and the
dataset lie on a file system that all of them share: teachers' weights are read there, and what a run leaves
behind is written there, whether or not the process that asked for it still lives.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from typing import Any

from tal_bench.errors import InputError, TalBenchError
from tal_bench.execution.worker import prepare_worker
from tal_bench.system.worker_pool import WorkerLostError, WorkerPool, interrupts_blocked

LOCAL = "local"
FLAG = "--scheduler"
PATIENCE = 10
"""Seconds in which a scheduler must answer."""
GPU = {"GPU": 1}
"""What a run on a GPU asks of a worker, and a worker offers with `--resources GPU=1`."""
_one_at_a_time = threading.Lock()


class DaskWorkerPool(WorkerPool):
    """Hands calls to the workers of a scheduler.

    Args:
        scheduler: its address, or `local` for one of our own on this machine.
        jobs: worker processes of our own scheduler.
        device: that they compute on.
        plugins: files to load in each.
        folder: of the study, which every worker must see.

    Raises:
        InputError: no scheduler answers, or none of its workers offers a GPU where one is needed.
    """

    def __init__(self, scheduler: str, jobs: int, device: str, plugins: Sequence[Path], folder: Path) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "dask.distributed is not installed", where=FLAG, hint="pip install 'tal-bench[cluster]'"
            ) from None
        self._cluster = _local_cluster(jobs, device) if scheduler == LOCAL else None
        try:
            self._client = Client(self._cluster or scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise InputError(f"no scheduler answers: {why}", where=f"{FLAG} {scheduler}") from None
        needed = GPU if device == "cuda" else {}
        self._check(scheduler, needed)
        self._inner = self._client.get_executor(pure=False, resources=needed)
        paths = tuple(plugin.expanduser().resolve() for plugin in plugins)
        self._call = partial(on_worker, device, paths, folder.resolve())

    def size(self) -> int:
        """Workers that are there now; at least 1, as some may come."""
        return max(1, len(self._client.nthreads()))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Hand a call over.

        Its future may raise `WorkerLostError`.
        """
        outer: Future[Any] = Future()
        inner = self._inner.submit(self._call, fn, *args, **kwargs)
        inner.add_done_callback(partial(_pass_on, outer))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what was handed over, and leave; a scheduler of our own ends."""
        self._inner.shutdown(wait=wait and not cancel_futures)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def terminate(self) -> None:
        """Leave at once; workers of others end the runs that they are at."""
        self.shutdown(wait=False)

    def _check(self, scheduler: str, needed: dict[str, int]) -> None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if needed and workers and not any("GPU" in worker["resources"] for worker in workers):
            hint = "start them with: dask worker ADDRESS --nthreads 1 --resources GPU=1"
            raise InputError("none of its workers offers a GPU", where=f"{FLAG} {scheduler}", hint=hint)


def on_worker(
    device: str, plugins: Sequence[Path], folder: Path, fn: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call in a worker, one call at a time, since random numbers belong to the process.

    Raises:
        InputError: the worker does not see the study's folder.
    """
    with _one_at_a_time:
        host = socket.gethostname()
        if not (folder / "study.json").is_file():
            hint = "give --reports a folder on a file system that all workers share"
            raise InputError("a worker does not see the study's folder", where=f"{host}:{folder}", hint=hint)
        prepare_worker(device, plugins)
        try:
            return fn(*args, **kwargs)
        except InputError as error:
            raise type(error)(error.what, where=f"{host}:{error.where}", hint=error.hint) from None


def _pass_on(outer: Future[Any], inner: Future[Any]) -> None:
    """The outcome, with Dask's errors in our words."""
    from distributed import KilledWorker

    if not outer.set_running_or_notify_cancel():
        return  # nobody waits any more
    try:
        outer.set_result(inner.result())
    except KilledWorker as error:
        last = getattr(error.last_worker, "address", error.last_worker)
        outer.set_exception(WorkerLostError(f"its workers died each time, the last at {last}"))
    except CancelledError:
        gone = TalBenchError("the scheduler went away", hint="run again; finished runs are kept")
        outer.set_exception(gone)
    except BaseException as error:
        outer.set_exception(error)


def _local_cluster(jobs: int, device: str) -> Any:
    """A scheduler with worker processes of one thread, which hear on this machine alone; a GPU for each."""
    from distributed import Nanny, Scheduler, SpecCluster

    def options(index: int) -> dict[str, Any]:
        seen = {"CUDA_VISIBLE_DEVICES": str(index)} if device == "cuda" else {}
        return {
            "nthreads": 1,
            "host": "127.0.0.1",
            "dashboard": False,
            "memory_limit": 0,  # as for other workers, the system sees to it
            "resources": GPU if device == "cuda" else {},
            "env": seen,
            "silence_logs": "ERROR",
        }

    with interrupts_blocked():  # threads and processes that start here never see Ctrl-C
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}},
            workers={index: {"cls": Nanny, "options": options(index)} for index in range(jobs)},
            silence_logs="ERROR",
        )
