"""Worker pool on a Dask scheduler, on one or several machines.

Dask schedules the runs and repeats those of dead workers on other workers. The study's folder and the dataset
must be on a file system shared by all workers, which read teachers' weights and write results there. A worker
finishes and writes its run even if the main process has died.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from typing import Any

from tal_bench.errors import InputError, TalBenchError
from tal_bench.execution.registry import FLAG, WorkerSetup
from tal_bench.execution.worker import prepare_worker
from tal_bench.system.text import first_line
from tal_bench.system.worker_pool import UnusableWorkerError, WorkerLostError, WorkerPool, interrupts_blocked

LOG = logging.getLogger(__name__)
LOCAL = "local"
CONNECT_TIMEOUT = 10
"""Seconds within which the scheduler must answer."""
GPU = {"GPU": 1}
"""Dask resource that a run on a GPU requires; workers offer it with `--resources GPU=1`."""
_call_lock = threading.Lock()


class DaskWorkerPool(WorkerPool):
    """Pool of the workers of a Dask scheduler.

    Args:
        setup: Its address is that of the scheduler, or `local` to start one on this machine.

    Raises:
        InputError: dask.distributed is not installed, the scheduler does not answer, or no worker offers a
            required GPU.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        scheduler, device = setup.address, setup.device
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "dask.distributed is not installed", where=FLAG, hint="pip install 'tal-bench[cluster]'"
            ) from None
        self._cluster = _local_cluster(setup) if scheduler == LOCAL else None
        try:
            self._client = Client(self._cluster or scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"the scheduler does not answer: {first_line(error)}", where=f"{FLAG} {scheduler}"
            ) from None
        resources = GPU if device == "cuda" else {}
        self._check_resources(scheduler, resources)
        self._executor = self._client.get_executor(pure=False, resources=resources)
        paths = tuple(plugin.expanduser().resolve() for plugin in setup.plugins)
        self._call_on_worker = partial(call_on_worker, device, paths, setup.folder.resolve())

    def size(self) -> int:
        """Return the current number of workers, at least 1 because workers may join later."""
        return max(1, len(self._client.nthreads()))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a call.

        The future raises `WorkerLostError` if the worker died at every attempt.
        """
        outer: Future[Any] = Future()
        inner = self._executor.submit(self._call_on_worker, fn, *args, **kwargs)
        inner.add_done_callback(partial(_copy_outcome, outer))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for pending calls and disconnect; a local scheduler is closed."""
        self._executor.shutdown(wait=wait and not cancel_futures)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    def terminate(self) -> None:
        """Disconnect at once; workers of a scheduler that is not local finish their current runs."""
        self.shutdown(wait=False)

    def _check_resources(self, scheduler: str, resources: dict[str, int]) -> None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if resources and workers and not any("GPU" in worker["resources"] for worker in workers):
            hint = "start them with: dask worker ADDRESS --nthreads 1 --resources GPU=1"
            raise InputError("no worker offers a GPU", where=f"{FLAG} {scheduler}", hint=hint)


def call_on_worker(
    device: str, plugins: Sequence[Path], folder: Path, fn: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Make a call in a worker, one at a time because the state of the random generators is per process.

    Raises:
        InputError: The worker cannot read the study's folder.
    """
    with _call_lock:
        host = socket.gethostname()
        if not (folder / "study.json").is_file():
            hint = "give --reports a folder on a file system shared by all workers"
            raise InputError("a worker cannot read the study's folder", where=f"{host}:{folder}", hint=hint)
        prepare_worker(device, plugins)
        try:
            return fn(*args, **kwargs)
        except UnusableWorkerError as error:
            LOG.warning("%s: %s; the worker ends, and the call is repeated in another one", host, error)
            os._exit(1)
        except InputError as error:
            raise type(error)(error.what, where=f"{host}:{error.where}", hint=error.hint) from None


def _copy_outcome(outer: Future[Any], inner: Future[Any]) -> None:
    """Copy the outcome of a future, with Dask's errors translated."""
    from distributed import KilledWorker

    if not outer.set_running_or_notify_cancel():
        return  # the outer future was cancelled
    try:
        outer.set_result(inner.result())
    except KilledWorker as error:
        last = getattr(error.last_worker, "address", error.last_worker)
        outer.set_exception(WorkerLostError(f"the worker died at every attempt, last on {last}"))
    except CancelledError:
        lost = TalBenchError("connection to the scheduler lost", hint="run again; finished runs are kept")
        outer.set_exception(lost)
    except BaseException as error:
        outer.set_exception(error)


def _local_cluster(setup: WorkerSetup) -> Any:
    """Start a scheduler and workers with one thread (and one GPU) each, reachable only from this machine."""
    from distributed import Nanny, Scheduler, SpecCluster

    environments = setup.environments() or [{}] * setup.jobs

    def options(index: int) -> dict[str, Any]:
        return {
            "nthreads": 1,
            "host": "127.0.0.1",
            "dashboard": False,
            "memory_limit": 0,  # no limit, as in local worker pools
            "resources": GPU if setup.device == "cuda" else {},
            "env": dict(environments[index]),
            "silence_logs": "ERROR",
        }

    with interrupts_blocked():  # threads and processes started here ignore Ctrl-C
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}},
            workers={index: {"cls": Nanny, "options": options(index)} for index in range(setup.jobs)},
            silence_logs="ERROR",
        )
