"""Registry of executors: the places where the runs of a study are made.

A new executor is one `executors.add(...)`, in `execution/executors.py` or in a plugin. Its name is a value of
`--scheduler`, and a scheme of addresses: `slurm` also makes the executor of `slurm://gpu`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tal_bench.registry import Registry
from tal_bench.system.gpus import check_shared_memory, free_gpu_memory, visible_gpus, worker_environments
from tal_bench.system.worker_pool import SpawnedProcesses, WorkerPool

FLAG = "--scheduler"


@dataclass(frozen=True)
class WorkerSetup:
    """What an executor is made from.

    Attributes:
        jobs: Number of workers on this machine.
        device: Device of the workers, `cpu` or `cuda`.
        folder: Folder of the study, which every worker must be able to read.
        plugins: Plugin files to load in every worker.
        address: Value of `--scheduler`; empty if it was not given.
    """

    jobs: int
    device: str
    folder: Path
    plugins: tuple[Path, ...] = ()
    address: str = ""

    def environments(self) -> list[Mapping[str, str]]:
        """Return the environment variables of each local worker, which give it a GPU of its own.

        Raises:
            InputError: Too many workers would share a GPU.
        """
        if self.device == "cpu":
            return []
        gpus = visible_gpus()
        if self.jobs <= len(gpus) or not gpus:
            return worker_environments(self.jobs, gpus)
        with SpawnedProcesses(1) as process:  # a process that uses a GPU keeps memory on it
            free = min(process.submit(free_gpu_memory).result())
        # CUDA reports a single MIG device, whatever their number
        check_shared_memory(self.jobs, [free] * len(gpus))
        return worker_environments(self.jobs, gpus, free)

    def prepare(self) -> None:
        """Prepare a worker; every worker has to call this before its first run."""
        from tal_bench.execution.worker import prepare_worker

        prepare_worker(self.device, self.plugins)


@dataclass(frozen=True)
class ExecutorEntry:
    """A registered executor.

    Attributes:
        name: Name for `--scheduler`, and scheme of its addresses.
        summary: One line for `tal-bench list executors`.
        make: Function that starts the workers.
        workers: Whether it starts `--jobs` of them on this machine, only ever one, or uses those that run
            elsewhere.
    """

    name: str
    summary: str
    make: Callable[[WorkerSetup], WorkerPool]
    workers: Literal["jobs", "one", "elsewhere"] = "jobs"


executors: Registry[ExecutorEntry] = Registry("executor", "tal_bench.execution.executors")


def find_executor(scheduler: str | None, jobs: int = 1, device: str = "cpu") -> ExecutorEntry:
    """Return the executor of a value of `--scheduler`; without one, this process or local processes.

    Runs on a GPU have a process of their own, because a failure may make it useless and it is replaced then.

    Raises:
        InputError: No executor has the name, or the scheme of the address.
    """
    if scheduler is None:
        return executors.get("in-process" if jobs == 1 and device == "cpu" else "processes")
    name = scheduler.partition("://")[0]
    if name not in executors and ":" in name:  # HOST:PORT
        name = "tcp"
    return executors.get(name, where=FLAG)
