"""Run the command line in separate processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

TIMEOUT = 900.0
"""Seconds after which a process counts as stuck."""


def start(words: Sequence[str | Path], folder: Path) -> subprocess.Popen[str]:
    """Start `tal-bench` in a folder, in a new process group, on one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TAL_BENCH_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "tal_bench", *map(str, words)],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_restore_interrupts,  # noqa: PLW1509
    )


def _restore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored if the tests run in the background


def run(words: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `tal-bench` and return its output."""
    return finished(start(words, folder))


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a process and return its output."""
    try:
        out, error = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait until a condition holds while the process is running."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            _, error = process.communicate(timeout=TIMEOUT)
            raise AssertionError(f"the process ended or timed out before the condition held: {error}")
        time.sleep(0.01)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return all descendants of a process."""
    return psutil.Process(process.pid).children(recursive=True)


def still_alive(processes: Sequence[psutil.Process], timeout: float = 20.0) -> list[psutil.Process]:
    """Return the processes that have not ended within the timeout. Zombies count as ended."""
    _, alive = psutil.wait_procs(processes, timeout=timeout)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
