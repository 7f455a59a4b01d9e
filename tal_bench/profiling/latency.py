"""Time measurement: latency of repeated calls, and the fastest of several calls."""

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
        median: Median in milliseconds.
        iqr: Interquartile range in milliseconds.
        runs: Number of timed calls.
        p5: 5th percentile in milliseconds.
        p95: 95th percentile in milliseconds.
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
    """Measure the wall-clock time of repeated calls after a warm-up, synchronising CUDA around each.

    Args:
        call: Function to time.
        device: Device on which it runs.
        warmup: Number of calls before the first timed one.
        runs: Maximum number of timed calls.
        seconds: Total time after which no further call begins, once five calls have been timed.
    """
    device = torch.device(device)
    for _ in range(warmup):
        call()
    times: list[float] = []
    while len(times) < runs and (len(times) < min(5, runs) or sum(times) < seconds):
        synchronise(device)
        start = time.perf_counter()
        call()
        synchronise(device)
        times.append(time.perf_counter() - start)
    p5, p25, median, p75, p95 = (float(ms) for ms in np.percentile(times, [5, 25, 50, 75, 95]) * 1e3)
    return Latency(median=median, iqr=p75 - p25, runs=len(times), p5=p5, p95=p95)


def fastest_call(call: Callable[[], object], runs: int, device: str = "cpu") -> float:
    """Return the seconds of the fastest of several calls, measured with the clock of the device."""
    now = clock_of(device)
    times = []
    for _ in range(runs):
        start = now()
        call()
        times.append(now() - start)
    return min(times)


def clock_of(device: str) -> Callable[[], float]:
    """Return the clock of a device: processor time on the CPU, synchronised wall-clock time on CUDA."""
    if device == "cpu":
        return time.process_time

    def synchronised() -> float:
        synchronise(torch.device(device))
        return time.perf_counter()

    return synchronised


def synchronise(device: torch.device) -> None:
    """Wait for all work queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
