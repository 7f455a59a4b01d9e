"""Reasons and results of failed runs."""

from __future__ import annotations

import torch

from tal_bench.config import RunSpec
from tal_bench.errors import TalBenchError
from tal_bench.results.records import RunResult

CPU_OUT_OF_MEMORY = "DefaultCPUAllocator"
"""Part of the message of the RuntimeError that torch raises if the CPU is out of memory."""
MAX_LENGTH = 500
"""Maximum length of a reason in characters."""


def reason(error: Exception, spec: RunSpec) -> str:
    """Return why a run failed, on one line, with advice if it ran out of memory."""
    text = str(error) if isinstance(error, TalBenchError) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or CPU_OUT_OF_MEMORY in text):
        return text[:MAX_LENGTH]
    batch_size = spec.train.batch_size
    return f"out of memory with batches of {batch_size} ({memory_advice(spec)}): {text}"[:MAX_LENGTH]


def memory_advice(spec: RunSpec) -> str:
    """Return what to change if memory is insufficient."""
    half = spec.train.batch_size // 2
    if not half:
        return "use fewer --jobs, or a smaller model"
    return f"half of that may fit: 'training: {{batch_size: {half}}}' in the dataset's file"


def lost(spec: RunSpec, error: TalBenchError) -> RunResult:
    """Return the result of a run whose worker died at every attempt."""
    text = f"{error}; if for lack of memory, {memory_advice(spec)}"[:MAX_LENGTH]
    return RunResult(hash=spec.hash, spec=spec, status="failed", error=text)
