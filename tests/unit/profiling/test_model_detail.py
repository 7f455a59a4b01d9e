"""Cost of a detector by part and input length; table and figure."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from test_model import TOY, FakeDevice, Toy, small

from tal_bench.cli import main
from tal_bench.models.registry import Model
from tal_bench.profiling.model import count
from tal_bench.profiling.model_detail import MODULES, cost_by_part, detail_model, lengths_of


@pytest.mark.parametrize(
    "name",
    [
        "actionformer",
        "conv-dw-hallucinated-ta",
        "conv-privileged",
        "tridet",
        "temporalmaxer-primary",
        "tridet-decomposed",
    ],
)
def test_parts_add_up_to_the_total(name: str) -> None:
    model, spec = small(name)
    params, macs = count(model, spec, 64)
    found = cost_by_part(model, spec, 64)
    assert tuple(found) == MODULES
    assert sum(part.gmacs for part in found.values()) == pytest.approx(macs / 1e9, rel=1e-9)
    assert sum(part.params for part in found.values()) == params
    assert (found["hallucination"].params > 0) == ("hallucinated" in name)
    assert found["backbone"].gmacs > 0 and found["heads"].gmacs > 0


def test_modules_of_plugins_have_no_parts() -> None:
    assert cost_by_part(Model("toy", "conv", "primary", build=lambda _: Toy()), TOY, 16) == {}


def test_input_lengths() -> None:
    assert lengths_of(2304, 32) == [576, 1152, 2304, 4608]
    assert lengths_of(480, 32) == [128, 256, 480, 960], "rounded to what a pyramid can halve"
    assert lengths_of(32, 32) == [32, 64]


def test_detailed_cost_is_complete() -> None:
    model, spec = small("conv-dw-hallucinated")
    found = detail_model(model, spec, frames=64, device=FakeDevice(), threads=1, lengths=[32, 64, 128])
    assert [at.frames for at in found.lengths] == [32, 64, 128]
    assert found.lengths[2].gmacs > 1.9 * found.lengths[1].gmacs == 1.9 * found.cost.gmacs
    for at in found.lengths:
        assert 0 < at.latency.p5 <= at.latency.median <= at.latency.p95
    assert found.cost.latency_ms == {
        "median": found.lengths[1].latency.median,
        "iqr": found.lengths[1].latency.iqr,
    }
    assert found.videos_per_second > 0 and found.cost.peak_memory_mb > 0


def test_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["conv-small", "conv-dw-hallucinated-small", "conv-primary"]
    args = ["--frames", "64", "--channels", "rgb=16,flow=8", "--classes", "5", "--device", "cpu"]
    assert main(["profile", *names, *args, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*names, "hallucination", "heads", "p5 – p95"))
    assert {f.name for f in tmp_path.iterdir()} == {
        f"profile{end}" for end in (".md", ".csv", ".json", ".png", ".svg")
    }
    content = json.loads((tmp_path / "profile.json").read_text())
    assert [model["name"] for model in content["models"]] == names
    assert any("Commit" in line for line in content["provenance"])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "profile.csv").read_text())))
    assert [row["frames"] for row in rows] == ["32", "64", "128"] * 3
    assert (tmp_path / "profile.md").read_text().count("\n| conv") == 3


def test_default_is_all_models_that_the_streams_allow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tal_bench.cli.commands import profile as measure

    requested: list[str] = []
    monkeypatch.setattr(
        measure, "_detailed", lambda models, *_, **__: requested.extend(m.name for m, _ in models)
    )
    assert main(["profile", "--channels", "rgb=16,flow=8", "--frames", "64", "--device", "cpu"]) == 0
    every, requested[:] = list(requested), []
    assert {"actionformer", "conv-dw-hallucinated-ta-small", "tridet-privileged"} <= set(every)
    assert main(["profile", "--channels", "rgb=16", "--frames", "64", "--device", "cpu"]) == 0
    assert requested == [name for name in every if "-primary" in name or "-decomposed" in name]
