"""Local worker pool: calls of dead workers are retried."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tal_bench.system import worker_pool
from tal_bench.system.worker_pool import (
    ATTEMPTS,
    LocalWorkerPool,
    SpawnedProcesses,
    UnopenedDeviceError,
    UnusableWorkerError,
    WorkerLostError,
)

QUICK = (0.01, 0.02, 0.01)
"""Pauses between attempts to open a device."""


@pytest.fixture(autouse=True)
def quick_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(worker_pool.OPENING_PAUSES) == len(QUICK)
    monkeypatch.setattr(worker_pool, "OPENING_PAUSES", QUICK)


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


USELESS: list[bool] = []


def compute(note: Path, number: int) -> int:
    """Make this process useless in the first call with number 3, as a failed assertion on a GPU does."""
    if number == 3 and not note.exists():
        note.touch()
        USELESS.append(True)
    if USELESS:
        raise UnusableWorkerError("device-side assert triggered")
    return number


def always_useless() -> None:
    raise UnusableWorkerError("device-side assert triggered")


def variable(name: str) -> str:
    return os.environ[name]


def test_a_useless_worker_is_replaced_and_its_call_repeated(tmp_path: Path) -> None:
    workers = LocalWorkerPool(1)
    calls = [workers.submit(compute, tmp_path / "broke", number) for number in range(12)]
    assert [call.result() for call in calls] == list(range(12))
    with pytest.raises(WorkerLostError, match=f"{ATTEMPTS} attempts .* the last with device-side assert"):
        workers.submit(always_useless).result()
    workers.shutdown()


def busy_at_first(note: Path) -> str:
    """Return the processes that tried to open the device; the last one could."""
    note.open("a").write(f"{os.getpid()} ")
    if len(note.read_text().split()) <= len(QUICK):
        raise UnopenedDeviceError("device cuda cannot be opened: all devices are busy")
    return note.read_text()


def on_gpu(note: Path) -> str:
    """Return the GPU of the worker; GPU-b cannot be opened."""
    gpu = os.environ["TAL_TEST_GPU"]
    note.open("a").write(gpu[-1])
    if gpu == "GPU-b":
        raise UnopenedDeviceError("device cuda cannot be opened: all devices are busy")
    return gpu


def test_a_worker_without_a_device_does_not_take_the_calls_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = LocalWorkerPool(2, environments=[{"TAL_TEST_GPU": "GPU-b"}, {"TAL_TEST_GPU": "GPU-a"}])
    calls = [workers.submit(on_gpu, tmp_path / "note") for _ in range(6)]
    assert [call.result() for call in calls] == ["GPU-a"] * 6
    attempts = 1 + len(QUICK)
    assert workers.size() == 1 and sorted((tmp_path / "note").read_text()) == [*"aaaaaa" + "b" * attempts]
    assert [line for line in caplog.messages if "a worker is given up" in line] == [
        "a worker is given up, and others do its runs: device cuda cannot be opened: all devices are busy"
    ]
    workers.shutdown()


def test_when_no_worker_has_a_device_every_call_says_so_without_trying_again(tmp_path: Path) -> None:
    workers = LocalWorkerPool(2, environments=[{"TAL_TEST_GPU": "GPU-b"}])
    calls = [workers.submit(on_gpu, tmp_path / "note") for _ in range(6)]
    for call in calls:
        with pytest.raises(UnopenedDeviceError, match="all devices are busy"):
            call.result()
    assert workers.size() == 1 and (tmp_path / "note").read_text() == "b" * 2 * (1 + len(QUICK))
    workers.shutdown()


def test_a_device_that_is_busy_for_a_moment_is_opened_by_a_fresh_process(tmp_path: Path) -> None:
    workers = LocalWorkerPool(1)
    pids = workers.submit(busy_at_first, tmp_path / "note").result().split()
    assert len(set(pids)) == len(pids) == 1 + len(QUICK), "what failed to open a device cannot try again"
    workers.shutdown()


def test_a_pool_that_is_terminated_does_not_wait_for_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_pool, "OPENING_PAUSES", (60.0,))
    workers = LocalWorkerPool(1, environments=[{"TAL_TEST_GPU": "GPU-b"}])
    call = workers.submit(on_gpu, tmp_path / "note")
    while not (tmp_path / "note").exists():
        time.sleep(0.05)
    started = time.monotonic()
    workers.terminate()
    assert call.exception() is not None
    assert time.monotonic() - started < 20


def test_an_interrupt_ends_processes_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), SpawnedProcesses(1) as pool:
        pool.submit(os.getpid).result()
        (process,) = pool._processes.values()
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 30
    process.join(10)
    assert not process.is_alive()
    with SpawnedProcesses(1) as pool:
        call = pool.submit(time.sleep, 0.5)
    assert call.result() is None, "otherwise calls are completed"


def test_every_worker_has_its_environment_also_after_a_replacement(tmp_path: Path) -> None:
    workers = LocalWorkerPool(1, environments=[{"TAL_TEST_GPU": "GPU-a"}, {"TAL_TEST_GPU": "GPU-b"}])
    assert workers.submit(variable, "TAL_TEST_GPU").result() == "GPU-a"
    workers.submit(die_first, tmp_path / "dead").result()
    assert workers.submit(variable, "TAL_TEST_GPU").result() == "GPU-a"
    workers.shutdown()
    workers = LocalWorkerPool(3, environments=[{"TAL_TEST_GPU": "GPU-a"}, {"TAL_TEST_GPU": "GPU-b"}])
    assert [each["TAL_TEST_GPU"] for each in workers._environments.values()] == ["GPU-a", "GPU-b", "GPU-a"]
    workers.terminate()
    assert "TAL_TEST_GPU" not in os.environ
