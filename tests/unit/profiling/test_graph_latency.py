"""Latency of a recorded forward pass: where it is shown, and that a wrong recording never is."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_model import FakeDevice, small
from torch import Tensor

from tal_bench.cli import main
from tal_bench.profiling import graph_latency as module
from tal_bench.profiling import inputs
from tal_bench.profiling.model import cost_key, profile_model
from tal_bench.results.columns import cost_columns, logged_costs
from tal_bench.results.records import CostRecord
from tal_bench.training.device import Device
from tal_bench.training.recorded_step import WARM_UP

NAME = "conv-dw-hallucinated"
Work = Callable[[], dict[str, Tensor]]


class FakeRecorder:
    """Recorder on the CPU: a repetition does the work again, into the tensors of the recording.

    Args:
        factor: What the output of a repetition is multiplied by.
        failing: Whether recording fails.
    """

    def __init__(self, factor: float = 1.0, *, failing: bool = False) -> None:
        self.factor, self.failing, self.warmed, self.repeated = factor, failing, 0, 0

    def warm_up(self, work: Work) -> dict[str, Tensor]:
        self.warmed += 1
        return work()

    def record(self, work: Work) -> tuple[Callable[[], None], dict[str, Tensor]]:
        if self.failing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")
        results = {name: x.new_zeros(x.shape) for name, x in work().items()}

        def repeat() -> None:
            self.repeated += 1
            for name, x in work().items():
                results[name].copy_(self.factor * x)

        return repeat, results


def measured(monkeypatch: pytest.MonkeyPatch, recorder: FakeRecorder) -> CostRecord:
    monkeypatch.setattr(module, "recorder_for", lambda device: recorder)
    return profile_model(*small(NAME), frames=64, device=FakeDevice(), threads=1)


def test_the_recorded_pass_is_measured_beside_the_ordinary_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = FakeRecorder()
    cost = measured(monkeypatch, recorder)
    assert cost.latency_ms.keys() == {"median", "iqr", "graph"}
    assert cost.latency_ms["graph"] > 0
    assert recorder.warmed == WARM_UP and recorder.repeated >= 5
    (column,) = (one for one in cost_columns([cost]) if one.key == "latency_ms_graph")
    assert column.value(cost) == cost.latency_ms["graph"]
    assert logged_costs(cost, [column]) == {"cost/latency_ms_graph": cost.latency_ms["graph"]}


@pytest.mark.parametrize(
    ("recorder", "message"),
    [
        (FakeRecorder(failing=True), "operation not permitted when stream is capturing"),
        (FakeRecorder(1.01), "its output differs by 0.01"),
        (FakeRecorder(float("nan")), "its output differs by inf"),
    ],
)
def test_what_cannot_be_recorded_is_not_shown(
    recorder: FakeRecorder, message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        cost = measured(monkeypatch, recorder)
    assert cost.latency_ms.keys() == {"median", "iqr"}
    (line,) = caplog.messages
    assert line == f"the forward pass is not recorded as a CUDA graph: {message}"


def test_the_cpu_launches_nothing() -> None:
    cost = profile_model(*small(NAME), frames=64, device=FakeDevice(), threads=1)
    assert cost.latency_ms.keys() == {"median", "iqr"}
    assert "latency_ms_graph" not in {column.key for column in cost_columns([cost])}


@pytest.mark.parametrize("graphs", [True, False])
def test_the_table_of_profile(
    graphs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two models cannot be recorded: its cells are empty. Without a GPU there is no column."""
    monkeypatch.setenv("COLUMNS", "200")  # headings are wrapped in a narrow terminal
    recorders = [FakeRecorder(), FakeRecorder(failing=True)] if graphs else [None, None]
    monkeypatch.setattr(module, "recorder_for", lambda device: recorders.pop(0))
    args = ["--frames", "64", "--channels", "rgb=16,flow=8", "--classes", "5", "--device", "cpu", "--out"]
    assert main(["profile", "conv-small", "conv-primary", *args, str(tmp_path)]) == 0
    assert ("graph at 64" in capsys.readouterr().out) == graphs
    text = (tmp_path / "profile.md").read_text()
    assert ("graph at 64" in text) == ("as a CUDA graph" in text) == graphs
    lines = list(csv.DictReader(io.StringIO((tmp_path / "profile.csv").read_text())))
    models = json.loads((tmp_path / "profile.json").read_text())["models"]
    assert ["graph" in one["latency_ms"] for one in models] == [graphs, False]
    if graphs:
        found = {(line["model"], line["frames"]): line["latency_ms_graph"] for line in lines}
        assert float(found["conv-small", "64"]) == pytest.approx(models[0]["latency_ms"]["graph"], rel=1e-3)
        assert not found["conv-small", "128"] and not found["conv-primary", "64"]
    else:
        assert "latency_ms_graph" not in lines[0]


def test_costs_are_stored_by_the_name_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU, two kinds of GPU, and the precisions of one of them have records of their own."""
    names = iter(["NVIDIA A100", "NVIDIA H200", "NVIDIA H200"])
    monkeypatch.setattr(inputs.torch.cuda, "get_device_name", lambda device: next(names))
    key: Callable[..., str] = partial(cost_key, *small(NAME), frames=64, threads=1)
    devices: list[Any] = [Device("cpu"), Device("cuda"), Device("cuda"), Device("cuda", "bf16")]
    assert len({key(device=device) for device in devices}) == 4
