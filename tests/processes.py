"""Run the command line in separate processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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


FORKS = """
import json, os, sys, traceback
import matplotlib.figure, optuna, pandas, pydantic, rich, torch, typer, yaml

for line in sys.stdin:
    words, file = json.loads(line)
    if (child := os.fork()) == 0:
        with open(file, "w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = 1
        try:
            from tal_bench.cli import main

            code = main(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedCommands:
    """Runs commands in forks of a process that has imported the large libraries, but nothing of this package.

    Every command imports and declares everything anew, as in a process of its own, in half the time.
    """

    def __init__(self) -> None:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([sys.executable, "-c", FORKS], text=True, bufsize=1, **pipes)

    def run(self, words: Sequence[str | Path]) -> tuple[int, str]:
        """Run `tal-bench` and return its exit code, and its output with its messages."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
            print(json.dumps([[*map(str, words)], output.name]), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return code, output.read()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


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
