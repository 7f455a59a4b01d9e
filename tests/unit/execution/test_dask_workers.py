"""Calls on Dask workers, and their errors."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from tal_bench.errors import DataError, InputError, TalBenchError
from tal_bench.execution import dask_workers, registry
from tal_bench.execution.dask_workers import DaskWorkerPool, call_on_worker
from tal_bench.execution.registry import WorkerSetup
from tal_bench.system.gpus import VARIABLE
from tal_bench.system.worker_pool import UnopenedDeviceError, UnusableWorkerError, WorkerLostError

distributed = pytest.importorskip("distributed")


def test_an_unreachable_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "CONNECT_TIMEOUT", 1)
    with pytest.raises(InputError, match=r"--scheduler tcp://127\.0\.0\.1:9: the scheduler does not answer"):
        DaskWorkerPool(WorkerSetup(1, "cpu", tmp_path, address="tcp://127.0.0.1:9"))
    with pytest.raises(InputError, match="the scheduler does not answer"):
        DaskWorkerPool(WorkerSetup(1, "cpu", tmp_path, address="nonsense"))


def test_a_local_scheduler_gives_every_worker_a_gpu_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "visible_gpus", lambda: ("GPU-a", "MIG-b"))
    monkeypatch.setattr(distributed, "SpecCluster", lambda workers, **named: workers)

    def offered(jobs: int, device: str) -> list[tuple[dict[str, str], dict[str, int]]]:
        workers: Any = dask_workers._local_cluster(WorkerSetup(jobs, device, tmp_path, address="local"))
        return [(worker["options"]["env"], worker["options"]["resources"]) for worker in workers.values()]

    assert offered(2, "cuda") == [({VARIABLE: "GPU-a"}, {"GPU": 1}), ({VARIABLE: "MIG-b"}, {"GPU": 1})]
    assert offered(3, "cpu") == [({}, {})] * 3


def test_a_worker_without_the_folder_names_its_host(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f":{tmp_path}: a worker cannot read the study's folder"):
        call_on_worker("cpu", (), tmp_path, int, "7")
    (tmp_path / "study.json").write_text("{}")
    assert call_on_worker("cpu", (), tmp_path, int, "7") == 7

    def unreadable() -> None:
        raise DataError("no such file", where="features.npy")

    with pytest.raises(DataError, match=r"\S+:features\.npy: no such file"):
        call_on_worker("cpu", (), tmp_path, unreadable)


def test_a_worker_with_many_threads_makes_one_call_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    active, most_active = [0], [0]

    def work() -> None:
        active[0] += 1
        most_active[0] = max(most_active[0], active[0])
        time.sleep(0.05)
        active[0] -= 1

    threads = [threading.Thread(target=call_on_worker, args=("cpu", (), tmp_path, work)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most_active == [1]


@pytest.mark.parametrize("error", [UnusableWorkerError, UnopenedDeviceError])
def test_a_worker_that_lost_its_gpu_ends_itself(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study.json").write_text("{}")

    def end(code: int) -> None:
        raise SystemExit(code)

    def useless() -> None:
        raise error("device-side assert triggered")

    monkeypatch.setattr(dask_workers.os, "_exit", end)
    with pytest.raises(SystemExit, match="1"):
        call_on_worker("cpu", (), tmp_path, useless)


@pytest.mark.parametrize(
    ("dask_error", "expected"),
    [
        (lambda: distributed.KilledWorker("run-1", "tcp://n7:1", 3), WorkerLostError),
        (CancelledError, TalBenchError),
        (lambda: InputError("is broken"), InputError),
    ],
)
def test_errors_of_dask_are_translated(dask_error: Any, expected: type[Exception]) -> None:
    inner: Future[Any] = Future()
    outer: Future[Any] = Future()
    inner.set_exception(dask_error())
    dask_workers._copy_outcome(outer, inner)
    assert isinstance(outer.exception(), expected)


def test_the_outcome_of_a_cancelled_call_is_dropped() -> None:
    inner: Future[Any] = Future()
    outer: Future[Any] = Future()
    assert outer.cancel()
    inner.set_result(7)
    dask_workers._copy_outcome(outer, inner)
    assert outer.cancelled()
