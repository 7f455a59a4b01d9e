"""The command line as processes of its own, as a person starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

PATIENCE = 900.0
"""Seconds after which a process counts as stuck; many times what a quiet machine needs."""


def start(words: Sequence[str | Path], folder: Path) -> subprocess.Popen[str]:
    """Start `tal-bench` in a folder, in a process group of its own, on one thread."""
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
        preexec_fn=_heed_interrupts,  # noqa: PLW1509
    )


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests started in the background ignore them


def run(words: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return finished(start(words, folder))


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for the end."""
    try:
        out, error = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Wait for something to happen while the process lives."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            _, error = process.communicate(timeout=PATIENCE)
            raise AssertionError(f"the process ended before it happened: {error}")
        time.sleep(0.01)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below it."""
    return psutil.Process(process.pid).children(recursive=True)


def still_alive(processes: Sequence[psutil.Process], patience: float = 20.0) -> list[psutil.Process]:
    """Which of them have not ended after a while; nobody may be left to reap those that have."""
    _, alive = psutil.wait_procs(processes, timeout=patience)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
