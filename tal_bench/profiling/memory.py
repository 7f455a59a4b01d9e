"""Peak memory of a forward pass, and of this process.

The peak of a forward pass includes weights (and their prepared copies), buffers, inputs, and the outputs and
temporaries allocated through PyTorch's allocator. It excludes the Python process, the code of libraries, and
memory that math libraries allocate by themselves. On the CPU that is their scratch memory; on CUDA hardly
anything, because cuBLAS and cuDNN take theirs from PyTorch's allocator, so peaks of the two do not compare.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from tal_bench.models.layers import Conv
from tal_bench.profiling.latency import synchronise
from tal_bench.types import Batch

MB = 1e6


def peak_memory_mb(
    module: nn.Module, batch: Batch, call: Callable[[], object], device: torch.device
) -> float:
    """Return the peak memory of a forward pass in MB (1e6 bytes): weights, inputs and activations.

    Args:
        module: Module that runs.
        batch: Input of the module.
        call: Function that runs the module on the batch and discards the output.
        device: Device of both.
    """
    tensors = chain(module.parameters(), module.buffers(), batch.features.values(), [batch.mask])
    prepared = sum(part.prepared_bytes for part in module.modules() if isinstance(part, Conv))
    return (tensor_bytes(tensors) + prepared + peak_allocation(call, device)) / MB


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the tensors' storages, counting shared storages once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


def peak_allocation(call: Callable[[], object], device: torch.device) -> int:
    """Return the peak of the bytes that a call allocates, on top of memory allocated before.

    The call runs once beforehand, so that persistent workspaces are not counted.
    """
    call()
    if device.type == "cuda":
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    return _cpu_peak(call)


def _cpu_peak(call: Callable[[], object]) -> int:
    """Compute the peak from the events of the CPU allocator, which the profiler of autograd records.

    `torch.profiler` records the same, and imports the compiler of torch.
    """
    with _quiet_profiler(), profile(profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [e for e in events if e.get("name") == "[memory]" and e["args"].get("Device Type") == 0]
    changes.sort(key=lambda e: float(e["ts"]))
    current = peak = 0
    live: dict[int, int] = {}
    for change in changes:
        size, address = int(change["args"]["Bytes"]), int(change["args"]["Addr"])
        if size > 0:
            live[address] = size
        elif live.pop(address, None) is None:
            continue  # allocated before the call
        current += size
        peak = max(peak, current)
    return peak


@contextlib.contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Suppress the profiler's log messages on stderr."""
    name = "KINETO_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    os.environ[name] = "99"
    try:
        yield
    finally:
        del os.environ[name]


def process_peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB (1e6 bytes)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1e6 if sys.platform == "darwin" else 1e3)
    # getrusage would include the memory of the parent at the time of the fork
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match[1]) * 1024 / MB if match else 0.0
