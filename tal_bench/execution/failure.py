"""Why a run failed, and the result that says so."""

from __future__ import annotations

import torch

from tal_bench.config import RunSpec
from tal_bench.errors import TalBenchError
from tal_bench.results.records import RunResult

NO_MEMORY = "DefaultCPUAllocator"
"""What torch says where the CPU's memory does not suffice, in a plain RuntimeError."""
LONGEST = 500
"""Characters of a reason."""


def reason(error: Exception, spec: RunSpec) -> str:
    """Why a run failed, on one line, with a way out where there is one."""
    text = str(error) if isinstance(error, TalBenchError) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or NO_MEMORY in text):
        return text[:LONGEST]
    told = f"out of memory with batches of {spec.train.batch_size} ({smaller_batches(spec)}): {text}"
    return told[:LONGEST]


def smaller_batches(spec: RunSpec) -> str:
    """What to try when memory does not suffice."""
    half = spec.train.batch_size // 2
    if not half:
        return "use fewer --jobs, or a smaller model"
    return f"half of that may fit: 'training: {{batch_size: {half}}}' in the dataset's file"


def lost(spec: RunSpec, error: TalBenchError) -> RunResult:
    """The result of a run whose worker died each time that it was tried."""
    text = f"{error}; if for lack of memory, {smaller_batches(spec)}"[:LONGEST]
    return RunResult(hash=spec.hash, spec=spec, status="failed", error=text)
