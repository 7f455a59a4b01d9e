"""Which GPUs a process may use, and which one each of its workers gets."""

from __future__ import annotations

import pytest
import torch

from tal_bench.errors import InputError
from tal_bench.system.gpus import (
    BYTES_PER_JOB,
    VARIABLE,
    DeviceUnavailableError,
    check_shared_memory,
    default_jobs_on,
    free_gpu_memory,
    open_device,
    still_works,
    visible_gpus,
    worker_environments,
)

UUIDS = "GPU-5ebe9f43-ac33, GPU-7b2f1c20-11aa"
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@pytest.mark.parametrize(
    ("variable", "reported", "entries"),
    [
        (None, 0, ()),
        (None, 3, ("0", "1", "2")),
        ("2,3", 2, ("2", "3")),
        ("5, 7,-1,6", 2, ("5", "7")),
        (UUIDS, 2, ("GPU-5ebe9f43-ac33", "GPU-7b2f1c20-11aa")),
        ("MIG-1,MIG-2,MIG-3", 1, ("MIG-1", "MIG-2", "MIG-3")),
        ("MIG-1,MIG-2", 0, ()),
        ("", 0, ()),
    ],
)
def test_gpus_are_entries_of_the_inherited_variable(
    variable: str | None, reported: int, entries: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    assert visible_gpus(lambda: reported) == entries


def test_the_default_is_a_worker_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert default_jobs_on("cuda") == 4
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert default_jobs_on("cuda") == 1


def test_workers_share_gpus_evenly() -> None:
    given = [variables[VARIABLE] for variables in worker_environments(5, ("GPU-a", "GPU-b"))]
    assert given == ["GPU-a", "GPU-b", "GPU-a", "GPU-b", "GPU-a"]
    assert worker_environments(3, ()) == []


def test_too_many_workers_of_a_gpu_are_refused_before_they_run_out_of_memory() -> None:
    room = int(3.5 * BYTES_PER_JOB)
    check_shared_memory(6, [room, room])
    check_shared_memory(2, [1000, 1000])  # one each, as without sharing
    with pytest.raises(InputError, match=r"^--jobs 7: 4 trainings would share .* \(use at most 6\)$"):
        check_shared_memory(7, [room, room])


def test_a_gpu_without_free_memory_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(index: int) -> tuple[int, int]:
        if index:
            raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
        return 3, 4

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    with pytest.raises(DeviceUnavailableError, match=r"^GPU 1 cannot be opened: CUDA error: out of memory$"):
        free_gpu_memory()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert free_gpu_memory() == [3]


def test_what_an_earlier_run_left_unused_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that share a GPU cannot use what another one keeps."""
    given_back: list[int] = []
    monkeypatch.setattr(torch, "empty", lambda size, device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(1))
    open_device(torch.device("cpu"))
    assert not given_back
    open_device(torch.device("cuda", 0))
    assert given_back


@NO_GPU
def test_a_device_that_cannot_be_opened_says_why() -> None:
    open_device(torch.device("cpu"))
    assert still_works(torch.device("cpu"))
    with pytest.raises(DeviceUnavailableError, match=r"^device cuda cannot be opened: \S+"):
        open_device(torch.device("cuda"))
    assert not still_works(torch.device("cuda"))
