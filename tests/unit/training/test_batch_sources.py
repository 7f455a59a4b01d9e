"""Batches read from host memory, through a pinned ring and gathered from resident features are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import small_dataset
from fake_gpu import CpuAsGpu, GpuRules, fake_gpu
from tiny import FAST, tiny_spec

from tal_bench.config import TrainSpec
from tal_bench.data.batches import Crops, collate, evaluation_crops, training_crops
from tal_bench.data.dataset import MappedFeatures, Video, open_dataset
from tal_bench.data.registry import read_dataset_file
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.system import gpus
from tal_bench.system.gpus import SHARE, room_for_features
from tal_bench.training import train as training
from tal_bench.training.batch_sources import choice
from tal_bench.training.batch_sources.choice import prediction_source, training_source
from tal_bench.training.batch_sources.resident import ResidentFeatures, features_nbytes
from tal_bench.training.batch_sources.ring import pinned_ring
from tal_bench.training.device import Device, batch_tensors
from tal_bench.types import Batch

CPU = Device("cpu")


@pytest.fixture(params=[0, 2**30], ids=["mapped", "in memory"])
def videos(tmp_path: Path, request: pytest.FixtureRequest) -> list[Video]:
    data = open_dataset(small_dataset(tmp_path), ["rgb", "flow"], memory_limit=request.param)
    found = data.videos("train")
    assert isinstance(found[0].features, MappedFeatures) == (not request.param)
    return found


def epoch(videos: list[Video], seed: int = 0) -> Iterator[Crops]:
    spec = TrainSpec(batch_size=2, crop=(0.3, 1.0))
    length = max(video.steps for video in videos)
    return training_crops(videos, spec=spec, max_length=length, generator=np.random.default_rng(seed))


def same(found: Batch, expected: Batch) -> None:
    a, b = batch_tensors(found), batch_tensors(expected)
    assert a.keys() == b.keys()
    for name, x in a.items():
        assert torch.equal(x, b[name]) and x.dtype == b[name].dtype and x.stride() == b[name].stride(), name
    assert found.videos == expected.videos


def test_batches_gathered_from_resident_features(videos: list[Video]) -> None:
    source, count = ResidentFeatures(videos, CPU), 0
    for seed in range(5):
        for found, crops in zip(source(epoch(videos, seed)), epoch(videos, seed), strict=True):
            same(found, collate(crops, ["rgb", "flow"]))
            assert not found.mask.all() or found.mask.shape[1] == int(found.mask.sum(1).max())
            count += 1
    assert count >= 5
    padded = evaluation_crops(videos, batch_size=3, max_length=100, divisor=8)
    longer = list(evaluation_crops(videos, batch_size=3, max_length=100, divisor=8))
    for found, crops in zip(source(padded), longer, strict=True):
        same(found, collate(crops, ["rgb", "flow"]))
        assert not found.mask.all() and not found.features["rgb"][:, :, -1].any()
    assert features_nbytes(videos) == sum(4 * x.size for v in videos for x in v.features.values())


def test_a_gather_does_not_wait_for_the_gpu(videos: list[Video]) -> None:
    with fake_gpu():
        source = object.__new__(ResidentFeatures)
        source._padding = 40
        source._streams = {"rgb": torch.zeros(41, 6, device="cuda")}
        starts, mask = torch.zeros(3, dtype=torch.long).cuda(), torch.ones(3, 16, dtype=torch.bool).cuda()
        with GpuRules("fp32"):
            features = source.gather(starts, mask)
        assert features["rgb"].shape == (3, 6, 16) and features["rgb"].device.type == "cuda"


def test_a_ring_sends_the_next_batch_before_one_is_used(videos: list[Video]) -> None:
    happened: list[str] = []

    def send(batch: Batch) -> Callable[[], Batch]:
        number = sum("sent" in line for line in happened)
        happened.append(f"sent {number}")

        def receive() -> Batch:
            happened.append(f"received {number}")
            return batch

        return receive

    every = [*epoch(videos, 0), *epoch(videos, 1), *epoch(videos, 2)]
    for number, found in enumerate(pinned_ring(iter(every), ["rgb", "flow"], CPU, send)):
        same(found, collate(every[number], ["rgb", "flow"]))
        happened.append(f"used {number}")
    assert happened[:6] == ["sent 0", "sent 1", "received 0", "used 0", "sent 2", "received 1"]
    assert happened[-1] == f"used {len(every) - 1}"
    assert list(pinned_ring(iter([]), ["rgb"], CPU, send)) == []


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CpuAsGpu:
    return CpuAsGpu(monkeypatch)


@pytest.mark.parametrize("fits", ["yes", "no", "only on paper"])
def test_features_stay_on_the_gpu_where_they_fit(
    videos: list[Video], fits: str, gpu: CpuAsGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def resident(given: list[Video], device: Device) -> Any:
        made.append("resident")
        if fits == "only on paper":
            raise torch.OutOfMemoryError
        return ResidentFeatures(given, CPU)

    room = features_nbytes(videos) - (fits == "no")
    monkeypatch.setattr(choice, "room_for_features", lambda device: room)
    monkeypatch.setattr(choice, "ResidentFeatures", resident)
    source = training_source(videos, gpu)
    assert isinstance(source, ResidentFeatures) == (fits == "yes")
    assert made == ([] if fits == "no" else ["resident"])
    for found, crops in zip(source(epoch(videos)), epoch(videos), strict=True):
        same(found, collate(crops, ["rgb", "flow"]))


def test_predictions_read_every_video_once_into_pinned_memory(videos: list[Video], gpu: CpuAsGpu) -> None:
    crops = list(evaluation_crops(videos, batch_size=2, max_length=100, divisor=8))
    for found, expected in zip(prediction_source(["flow"], gpu)(iter(crops)), crops, strict=True):
        same(found, collate(expected, ["flow"]))


def test_half_of_a_workers_share_is_for_features(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    free = [20e9]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[-1], 80e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 6e9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2e9)
    monkeypatch.delenv(SHARE, raising=False)
    assert room_for_features(device) == 12e9, "half of what is free, and of what PyTorch keeps unused"
    given = gpus.worker_environments(7, ("0", "1"), int(24e9))
    assert {variables[SHARE] for variables in given} == {str(int(6e9))}
    monkeypatch.setenv(SHARE, given[0][SHARE])
    assert room_for_features(device) == 2e9, "half of what is left of a quarter of what was free"
    free.append(1e9)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2e9)
    assert room_for_features(device) == 0.5e9, "others took more than was expected"
    monkeypatch.setenv(SHARE, "1")
    assert room_for_features(device) == 0


def test_workers_of_a_gpu_that_others_use_do_not_take_each_others_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four workers open a GPU of 80 GB, of which other users hold 60, one after the other."""
    free = 20e9
    share = gpus.worker_environments(4, ("0",), int(free))[0][SHARE]
    monkeypatch.setenv(SHARE, share)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    taken = []
    for _ in range(4):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, now=free: (now, 80e9))
        taken.append(room_for_features(torch.device("cuda", 0)))
        free -= 2 * taken[-1]
    assert taken == [2.5e9] * 4


def test_a_training_is_the_same_from_either_source(
    dataset_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dataset(read_dataset_file(dataset_file), ("rgb",))
    architecture = detector_spec(get_model("conv-primary"), tiny_spec(), 3)

    def trained() -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        student = get_model("conv-primary").build(architecture)
        result = training.train(student, architecture, data.videos("train"), FAST, seed=1, device=CPU)
        return dict(result.state_dict())

    expected = trained()
    monkeypatch.setattr(training, "training_source", ResidentFeatures)
    for name, x in trained().items():
        assert torch.equal(x, expected[name]), name
