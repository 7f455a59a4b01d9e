"""Detection of MLflow runs with status RUNNING whose process has died."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

import psutil

PROCESS_TAG = "tal_bench.process"
"""Tag of a study's parent run: host, process id and start time of the process."""


def this_process() -> str:
    """Return the value of the tag for this process."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def has_died(tag: str) -> bool:
    """Return whether a process of this host has ended; False for other hosts, whose processes are unknown."""
    host, _, rest = tag.partition(" ")
    pid, _, start_time = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" != start_time
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def stale(running: Iterable[Any]) -> list[Any]:
    """Return the running MLflow runs of studies that were killed on this host."""
    return [run for run in running if has_died(run.data.tags.get(PROCESS_TAG, ""))]
