"""Runs that MLflow believes to be under way, and whose process is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

import psutil

PROCESS = "tal_bench.process"
"""Tag of a study's parent run: host, process and when that started."""


def this_process() -> str:
    """Value of the tag for this process."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_gone(tag: str) -> bool:
    """Whether a process was on this host and is there no more; of other hosts nothing is known."""
    host, _, rest = tag.partition(" ")
    number, _, started = rest.partition(" ")
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        return f"{psutil.Process(int(number)).create_time():.0f}" != started
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def left_behind(running: Iterable[Any]) -> list[Any]:
    """Those of MLflow's running studies that were killed on this host."""
    return [run for run in running if is_gone(run.data.tags.get(PROCESS, ""))]
