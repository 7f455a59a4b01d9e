"""Local worker pool: calls of dead workers are retried."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tal_bench.system.worker_pool import ATTEMPTS, LocalWorkerPool, WorkerLostError


def die_first(note: Path) -> int:
    """Kill the worker process in the first call."""
    note.open("a").write("x")
    if len(note.read_text()) == 1:
        os.kill(os.getpid(), 9)
    return os.getpid()


def always_die(note: Path) -> None:
    note.open("a").write("x")
    os.kill(os.getpid(), 9)


def slowly(note: Path) -> int:
    note.open("a").write("x")
    time.sleep(2.5)
    return os.getpid()


def test_only_the_call_of_a_dead_worker_is_retried(tmp_path: Path) -> None:
    workers = LocalWorkerPool(2)
    assert workers.size() == 2
    slow = workers.submit(slowly, tmp_path / "slow")
    again = workers.submit(die_first, tmp_path / "again")
    never = workers.submit(always_die, tmp_path / "never")
    assert again.result() != slow.result()
    with pytest.raises(WorkerLostError, match=f"died {ATTEMPTS} times"):
        never.result()
    assert (tmp_path / "slow").read_text() == "x", "the other worker was not affected"
    assert (tmp_path / "again").read_text() == "xx"
    assert (tmp_path / "never").read_text() == "x" * ATTEMPTS
    assert workers.submit(os.getpid).result() != os.getpid(), "dead workers are replaced"
    workers.shutdown()
