"""What a scheduler's workers are told, and how their troubles are."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from tal_bench.errors import DataError, InputError, TalBenchError
from tal_bench.execution import dask_workers as cluster
from tal_bench.execution.dask_workers import DaskWorkerPool, on_worker
from tal_bench.system.worker_pool import WorkerLostError

distributed = pytest.importorskip("distributed")


def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    with pytest.raises(InputError, match=r"--scheduler tcp://127\.0\.0\.1:9: no scheduler answers"):
        DaskWorkerPool("tcp://127.0.0.1:9", 1, "cpu", (), tmp_path)
    with pytest.raises(InputError, match="no scheduler answers"):
        DaskWorkerPool("nonsense", 1, "cpu", (), tmp_path)


def test_a_worker_without_the_folder_says_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f":{tmp_path}: a worker does not see the study's folder"):
        on_worker("cpu", (), tmp_path, int, "7")
    (tmp_path / "study.json").write_text("{}")
    assert on_worker("cpu", (), tmp_path, int, "7") == 7

    def unreadable() -> None:
        raise DataError("no such file", where="features.npy")

    with pytest.raises(DataError, match=r"\S+:features\.npy: no such file"):
        on_worker("cpu", (), tmp_path, unreadable)


def test_a_worker_with_many_threads_does_one_thing_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    inside, most = [0], [0]

    def work() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        inside[0] -= 1

    threads = [threading.Thread(target=on_worker, args=("cpu", (), tmp_path, work)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (lambda: distributed.KilledWorker("run-1", "tcp://n7:1", 3), WorkerLostError),
        (CancelledError, TalBenchError),
        (lambda: InputError("is broken"), InputError),
    ],
)
def test_troubles_are_told_in_our_words(theirs: Any, ours: type[Exception]) -> None:
    inner: Future[Any] = Future()
    outer: Future[Any] = Future()
    inner.set_exception(theirs())
    cluster._pass_on(outer, inner)
    assert isinstance(outer.exception(), ours)


def test_what_nobody_waits_for_is_dropped() -> None:
    inner: Future[Any] = Future()
    outer: Future[Any] = Future()
    assert outer.cancel()
    inner.set_result(7)
    cluster._pass_on(outer, inner)
    assert outer.cancelled()
