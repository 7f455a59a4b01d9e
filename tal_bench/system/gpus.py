"""GPUs that this process may use, and how they are divided among worker processes.

A worker sees one GPU alone, by an entry of `CUDA_VISIBLE_DEVICES`. Where the variable is set already, by a
scheduler or by the user, the entries are taken from it, because they may be names (`GPU-…`, `MIG-…`), and
numbers from 0 would stand for GPUs of other users.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tal_bench.errors import InputError, TalBenchError
from tal_bench.system.cpu_count import default_jobs, usable_cores
from tal_bench.system.text import first_line

if TYPE_CHECKING:
    import torch

VARIABLE = "CUDA_VISIBLE_DEVICES"
SHARE = "TAL_BENCH_GPU_SHARE"
"""Environment variable with the bytes of its GPU that a worker may take where several share it."""
BYTES_PER_JOB = 2e9
"""GPU memory that every further training on a GPU has to find free, its CUDA context included."""
MOST_PER_GPU = 4
"""Largest number of trainings that share a GPU unless `--jobs` says otherwise."""


def visible_gpus(count: Callable[[], int] | None = None) -> tuple[str, ...]:
    """Return the entries of `CUDA_VISIBLE_DEVICES` that select each GPU of this process.

    Args:
        count: Returns the number of GPUs that CUDA reports; by default PyTorch's.
    """
    if count is None:
        import torch

        count = torch.cuda.device_count
    number = count()
    text = os.environ.get(VARIABLE)
    if text is None or not number:
        return tuple(str(index) for index in range(number))
    entries = tuple(dict.fromkeys(entry.strip() for entry in text.split(",") if entry.strip()))
    if all(entry.startswith("MIG-") for entry in entries):
        return entries  # CUDA reports one at most to a process, whatever their number
    return entries[:number]  # CUDA ignores everything from the first invalid entry on


def worker_environments(
    jobs: int, gpus: Sequence[str] | None = None, free: int | None = None
) -> list[Mapping[str, str]]:
    """Return the environment variables of every worker, which give it one GPU; GPUs are shared evenly.

    Args:
        jobs: Number of workers.
        gpus: Entries of `visible_gpus`, the default.
        free: Bytes that were free on every GPU before the first worker. Workers that share a GPU get equal
            parts of them; None says that no GPU is shared.
    """
    gpus = visible_gpus() if gpus is None else gpus
    if not gpus:
        return []
    share = {} if free is None else {SHARE: str(free // -(-jobs // len(gpus)))}
    return [{VARIABLE: gpus[number % len(gpus)], **share} for number in range(jobs)]


def default_jobs_on(device: str) -> int:
    """Return the default number of workers on `cpu` (see `default_jobs`), or `cuda`: one per visible GPU."""
    return default_jobs() if device == "cpu" else max(1, len(visible_gpus()))


def trainings_per_gpu(free: int, peak: int, gpus: int) -> int:
    """Return how many trainings share a GPU: as many as memory and cores allow, at most `MOST_PER_GPU`.

    Each has to find twice the memory that it takes, because half of it is for features (`room_for_features`),
    and a core of its own, which launches its steps.

    Args:
        free: Free bytes of a GPU.
        peak: Bytes that a training takes there.
        gpus: Number of GPUs.
    """
    room = int(free // max(BYTES_PER_JOB, 2 * peak))
    return max(1, min(MOST_PER_GPU, room, usable_cores() // gpus))


def check_shared_memory(jobs: int, free: Sequence[int], flag: str = "--jobs") -> None:
    """Check that workers that share a GPU find memory on it.

    Args:
        jobs: Number of workers.
        free: Free bytes of every visible GPU.
        flag: Flag that gave the number of workers.

    Raises:
        InputError: There is room for fewer.
    """
    if jobs <= len(free):
        return
    smallest, shared = min(free), -(-jobs // len(free))
    room = max(1, int(smallest // BYTES_PER_JOB))
    if shared > room:
        raise InputError(
            f"{shared} trainings would share a GPU with {smallest / 1e9:.1f} GB free, and each may need "
            f"{BYTES_PER_JOB / 1e9:.0f} GB",
            where=f"{flag} {jobs}",
            hint=f"use at most {room * len(free)}",
        )


def room_for_features(device: torch.device) -> int:
    """Return how many bytes of a GPU the features of a training may take: half of what this process may take.

    That is what is free or, where workers share the GPU, what is left of this worker's share if that is less:
    what is free now also belongs to workers that have not allocated yet. The other half is for the training
    itself.
    """
    import torch

    used = torch.cuda.memory_allocated(device)
    kept = torch.cuda.memory_reserved(device) - used  # free for this process
    room = torch.cuda.mem_get_info(device)[0] + kept
    if SHARE in os.environ:
        room = min(room, max(0, int(os.environ[SHARE]) - used))
    return int(room // 2)


class DeviceUnavailableError(TalBenchError):
    """The device cannot be opened by this process."""


def open_device(device: torch.device) -> None:
    """Make a first allocation on a device, and leave what PyTorch keeps unused there to other processes.

    Raises:
        DeviceUnavailableError: The device cannot be used.
    """
    import torch

    try:
        torch.empty(1, device=device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        raise DeviceUnavailableError(f"device {device.type} cannot be opened: {first_line(error)}") from error


def still_works(device: torch.device) -> bool:
    """Whether a device that was opened still computes.

    After a failed assertion or an illegal access on a GPU, no call of the process on that GPU succeeds again.
    """
    import torch

    if device.type == "cpu":
        return True
    try:
        torch.cuda.synchronize(device)  # reports the errors of what was launched before
    except (RuntimeError, AssertionError):
        return False
    return True


def free_gpu_memory() -> list[int]:
    """Return the free bytes of every GPU of this process; opens a CUDA context on each of them.

    Raises:
        DeviceUnavailableError: A GPU cannot be opened.
    """
    import torch

    found: list[int] = []
    for index in range(torch.cuda.device_count()):
        try:
            found.append(torch.cuda.mem_get_info(index)[0])
        except (RuntimeError, AssertionError) as error:
            raise DeviceUnavailableError(f"GPU {index} cannot be opened: {first_line(error)}") from error
    return found
