"""How long a forward pass takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall-clock time of repeated calls.

    Attributes:
        median: milliseconds.
        iqr: interquartile range, milliseconds.
        runs: number of timed calls.
        p5: fifth percentile, milliseconds.
        p95: likewise.
    """

    median: float
    iqr: float
    runs: int
    p5: float = float("nan")
    p95: float = float("nan")


def measure_latency(
    call: Callable[[], object],
    device: torch.device | str = "cpu",
    *,
    warmup: int = 3,
    runs: int = 30,
    seconds: float = 6.0,
) -> Latency:
    """Time a call, again and again, after warming up; CUDA is synchronised around each.

    Args:
        call: what to time.
        device: that it runs on.
        warmup: calls before the first timed one.
        runs: timed calls, at most.
        seconds: no further call begins after so much timed work, once five are done.
    """
    device = torch.device(device)
    for _ in range(warmup):
        call()
    spent: list[float] = []
    while len(spent) < runs and (len(spent) < min(5, runs) or sum(spent) < seconds):
        synchronise(device)
        began = time.perf_counter()
        call()
        synchronise(device)
        spent.append(time.perf_counter() - began)
    least, low, median, high, most = (float(ms) for ms in np.percentile(spent, [5, 25, 50, 75, 95]) * 1e3)
    return Latency(median=median, iqr=high - low, runs=len(spent), p5=least, p95=most)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
