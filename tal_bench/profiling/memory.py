"""How much memory a forward pass needs at its peak.

Counted are weights (also as they are kept ready), buffers and inputs, and what the pass allocates on top of
them through PyTorch's allocator: outputs and temporaries while they live. The Python process, the libraries'
code and scratch that math libraries allocate by themselves are not counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tal_bench.models.layers import Conv
from tal_bench.profiling.latency import synchronise
from tal_bench.types import Batch

MB = 1e6


def peak_memory_mb(
    module: nn.Module, batch: Batch, call: Callable[[], object], device: torch.device
) -> float:
    """Weights, inputs and activations at the peak of a forward pass, in MB (1e6 bytes).

    Args:
        module: whose weights count.
        batch: whose features and mask count.
        call: runs the module on the batch and drops the output.
        device: that both lie on.
    """
    given = chain(module.parameters(), module.buffers(), batch.features.values(), [batch.mask])
    prepared = sum(part.prepared_bytes for part in module.modules() if isinstance(part, Conv))
    return (tensor_bytes(given) + prepared + peak_allocation(call, device)) / MB


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages, a shared one once."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


def peak_allocation(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes that a call has allocated, and not freed, at any one time; memory held before is not in it.

    The call runs once beforehand, so that lasting workspaces are not taken for its own.
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
    """Replay the CPU allocator's events, which the profiler records."""
    with _quiet_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [e for e in events if e.get("name") == "[memory]" and e["args"].get("Device Type") == 0]
    changes.sort(key=lambda e: float(e["ts"]))
    now = peak = 0
    held: dict[int, int] = {}
    for change in changes:
        size, address = int(change["args"]["Bytes"]), int(change["args"]["Addr"])
        if size > 0:
            held[address] = size
        elif held.pop(address, None) is None:
            continue  # freed here, allocated before
        now += size
        peak = max(peak, now)
    return peak


@contextlib.contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Keep the profiler from telling stderr of its start, its end, and GPUs that are not there."""
    name = "KINETO_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    os.environ[name] = "99"
    try:
        yield
    finally:
        del os.environ[name]
