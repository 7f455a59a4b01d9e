"""Executors by name and by address."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tal_bench.errors import InputError
from tal_bench.execution import registry
from tal_bench.execution.executors import InProcessPool, make_executor
from tal_bench.execution.registry import ExecutorEntry, WorkerSetup, executors, find_executor
from tal_bench.system.gpus import BYTES_PER_JOB, SHARE, VARIABLE
from tal_bench.system.worker_pool import LocalWorkerPool


@pytest.mark.parametrize(
    ("scheduler", "jobs", "device", "name"),
    [
        (None, 1, "cpu", "in-process"),
        (None, 1, "cuda", "processes"),
        (None, 2, "cpu", "processes"),
        ("in-process", 2, "cuda", "in-process"),
        ("local", 2, "cpu", "local"),
        ("tcp://10.0.0.1:8786", 1, "cpu", "tcp"),
        ("tls://host:8786", 1, "cpu", "tls"),
        ("host:8786", 1, "cpu", "tcp"),
    ],
)
def test_the_executor_of_an_option(scheduler: str | None, jobs: int, device: str, name: str) -> None:
    assert find_executor(scheduler, jobs, device).name == name


def test_local_workers_get_the_gpus_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "visible_gpus", lambda: ("GPU-a", "MIG-b"))
    assert WorkerSetup(2, "cuda", tmp_path).environments() == [{VARIABLE: "GPU-a"}, {VARIABLE: "MIG-b"}]
    assert WorkerSetup(2, "cpu", tmp_path).environments() == []
    pool = make_executor(WorkerSetup(2, "cuda", tmp_path))
    assert isinstance(pool, LocalWorkerPool)
    assert [*pool._environments.values()] == [{VARIABLE: "GPU-a"}, {VARIABLE: "MIG-b"}]
    pool.shutdown()


def test_mig_devices_are_shared_although_cuda_reports_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "MIG-a,MIG-b")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(registry, "SpawnedProcesses", ThreadPoolExecutor)
    monkeypatch.setattr(registry, "free_gpu_memory", lambda: [int(2.5 * BYTES_PER_JOB)])
    given = WorkerSetup(4, "cuda", tmp_path).environments()
    assert [variables[VARIABLE] for variables in given] == ["MIG-a", "MIG-b", "MIG-a", "MIG-b"]
    assert {variables[SHARE] for variables in given} == {str(int(1.25 * BYTES_PER_JOB))}
    with pytest.raises(InputError, match=r"--jobs 5: 3 trainings would share .* \(use at most 4\)"):
        WorkerSetup(5, "cuda", tmp_path).environments()


@pytest.mark.parametrize("scheduler", ["tpc://10.0.0.1:8786", "proceses"])
def test_an_unknown_executor(scheduler: str) -> None:
    with pytest.raises(InputError, match=r"^--scheduler: unknown executor '.*' \(did you mean"):
        find_executor(scheduler)


def test_an_executor_from_outside_gets_the_setup(tmp_path: Path) -> None:
    setups: list[WorkerSetup] = []

    def make(setup: WorkerSetup) -> InProcessPool:
        setups.append(setup)
        return InProcessPool()

    executors.add("mine", ExecutorEntry("mine", "for this test", make))
    try:
        setup = WorkerSetup(3, "cpu", tmp_path, address="mine://somewhere")
        pool = make_executor(setup)
    finally:
        executors._entries.pop("mine")
    assert setups == [setup]
    assert pool.submit(int, "7").result() == 7
