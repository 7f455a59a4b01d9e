"""Selection of candidates as on a GPU: the same ones as by numpy, without waiting, and NMS in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_gpu import CpuAsGpu, GpuRules, fake_gpu
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_spec
from torch import Tensor

from tal_bench.config import DecodeSpec
from tal_bench.data.dataset import open_dataset
from tal_bench.data.registry import read_dataset_file
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.training import prediction
from tal_bench.training.decoding import candidates as selection
from tal_bench.training.decoding.candidates import candidates, select
from tal_bench.training.device import Device
from tal_bench.training.prediction import predict
from tal_bench.types import DetectorOutput


def random_output(seed: int, T: int, per_class: bool, device: str = "cpu") -> DetectorOutput:
    """Return outputs for three videos, two of them padded, at two levels."""
    g = torch.Generator().manual_seed(seed)
    lengths, levels = torch.tensor([2 * T, T, 3]), (2 * T, T)
    own = (3,) if per_class else ()
    return DetectorOutput(
        logits=[torch.randn(3, t, 3, generator=g).to(device) for t in levels],
        offsets=[2 * torch.rand(3, t, *own, 2, generator=g).to(device) for t in levels],
        mask=[(torch.arange(t) * (2 * T // t) < lengths[:, None]).to(device) for t in levels],
        inputs=torch.zeros(3, 1, 4 * T, device=device),
        stem=torch.zeros(3, 1, 4 * T, device=device),
    )


@given(
    st.integers(0, 2**31),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from([1, 5, 2000]),
    st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=80, deadline=None)
def test_a_gpu_selects_what_numpy_selects(
    seed: int, T: int, per_class: bool, topk: int, threshold: float
) -> None:
    rules = DecodeSpec(min_score=threshold, topk=topk, min_length=0.8)
    output = random_output(seed, T, per_class)
    rows = select(output, rules)
    for i, expected in enumerate(candidates(output, rules)):
        found = selection._selected(selection.HostCopy(rows), i)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@pytest.mark.parametrize("per_class", [False, True])
def test_selection_does_not_wait_for_the_gpu(per_class: bool) -> None:
    with fake_gpu():
        output = random_output(0, 40, per_class, "cuda")
        with GpuRules("fp32"):
            rows = select(output, DecodeSpec(topk=50))
        assert rows.device.type == "cuda" and rows.shape == (3, 100, 4)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[int]]:
    """Have candidates selected as on a GPU; return a function for the threads that read them."""
    threads: set[int] = set()

    class Copy:
        def __init__(self, source: Tensor) -> None:
            self.source = source.clone()

        def wait(self) -> Tensor:
            threads.add(threading.get_ident())
            return self.source

    def pending(output: DetectorOutput, rules: DecodeSpec) -> Iterator[selection.Pending]:
        copy = Copy(select(output, rules))
        return (selection.partial(selection._selected, copy, i) for i in range(len(output.logits[0])))  # type: ignore[arg-type]

    monkeypatch.setattr(prediction, "pending_candidates", pending)
    return lambda: threads


@pytest.mark.parametrize("nms", ["gaussian", "none"])
def test_predictions_are_those_of_the_cpu_in_their_order(
    dataset_file: Path, nms: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    data = open_dataset(read_dataset_file(dataset_file), ("rgb",))
    torch.manual_seed(0)
    architecture = detector_spec(get_model("conv-primary"), tiny_spec(), 3)
    net = get_model("conv-primary").build(architecture)
    rules, videos = DecodeSpec(min_score=1e-4, nms=nms), data.videos("train+validation")
    expected = list(predict(net, architecture, videos, rules, Device("cpu"), batch_size=2))
    threads = request.getfixturevalue("on_gpu")
    gpu = CpuAsGpu(monkeypatch)
    found = list(predict(net, architecture, videos, rules, gpu, batch_size=2))
    assert [x.video for x in found] == [x.video for x in expected] and len(found) > 4
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.segments, b.segments)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.labels, b.labels)
    assert gpu.pinned == -(-len(videos) // 2)
    assert threads() and threading.get_ident() not in threads()
