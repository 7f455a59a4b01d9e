"""Exported graphs give the output of the detector at any length."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tal_bench.cli import main
from tal_bench.config import DetectorSpec, parse_spec
from tal_bench.converters import export as exporting
from tal_bench.converters.export import example_inputs, export, largest_difference, onnx_run, reference_run
from tal_bench.inference import export as checking
from tal_bench.models.backbone import _interpolated
from tal_bench.models.checkpoint import CARD, ModelCard, save_model
from tal_bench.models.detector import Detector
from tal_bench.models.neck import nearest
from tal_bench.models.students_and_teachers import STUDENT_INPUTS

STRUCTURES: dict[str, dict[str, Any]] = {
    "actionformer": {"structure": "actionformer", "attention_window": 5, "position_embedding": True},
    "conv-dw-hallucinated-ta": {
        "structure": "conv-dw",
        "inputs": "hallucinated",
        "temporal_attention": True,
        "max_length": 32,
    },
    "tridet": {"structure": "tridet", "trident": True, "bins": 4},
    "temporalmaxer": {
        "structure": "temporalmaxer",
        "stem_blocks": 0,
        "attention_window": 1,
        "neck_norm": "group",
    },
}

STUDENTS: dict[str, dict[str, Any]] = {
    f"{name}-{inputs}": {**STRUCTURES.get(name, {"structure": name}), "inputs": inputs}
    for name in ("conv-dw", "tridet")
    for inputs in STUDENT_INPUTS
}


def model(name: str) -> tuple[Detector, ModelCard]:
    """A small detector with all weights changed from their initial values."""
    value = {
        "inputs": "all",
        "primary": {"rgb": 6},
        "privileged": {"flow": 4},
        "classes": 3,
        "max_length": 64,
        "width": 16,
        "head_width": 16,
        "embed_layers": 1,
        "stem_blocks": 1,
        "branch_blocks": 1,
        "head_layers": 1,
        "regression_ranges": ((0.0, 4.0), (4.0, 10000.0)),
        **{**STRUCTURES, **STUDENTS}[name],
    }
    torch.manual_seed(0)
    net = Detector(parse_spec(DetectorSpec, value, where="test"))
    for p in net.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return net.eval(), ModelCard(name=name, program="test", detector=net.spec)


@cache
def as_onnx(name: str) -> bytes:
    """ONNX graph of a structure, cached because recording takes seconds."""
    return export(*model(name), "onnx").content


@pytest.mark.parametrize("name", STRUCTURES)
def test_onnx_gives_the_same_output_at_every_length(name: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net, _ = model(name)
    content = as_onnx(name)
    graph, detector = onnx_run(content, threads=1), reference_run(net, net.spec)
    for steps in (16, 28, 64, 148):
        inputs = example_inputs(net.spec, steps, padded=5)
        assert largest_difference(detector(*inputs), graph(*inputs)) <= checking.TOLERANCE
        assert {x.shape[1] for x in graph(*inputs)} == {steps // s for s in net.spec.level_strides}


@pytest.mark.parametrize("name", STUDENTS)
def test_every_kind_of_student_is_exported(name: str) -> None:
    net, card = model(name)
    graph, detector = export(net, card, "torch").run, reference_run(net, net.spec)
    for steps in (28, 148):
        inputs = example_inputs(net.spec, steps, padded=5)
        assert len(inputs[0]) == 1, "students read primary modalities only"
        assert largest_difference(detector(*inputs), graph(*inputs)) <= checking.TOLERANCE


def test_the_command_writes_the_checked_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, card = model("conv-dw-hallucinated-ta")
    save_model(net, tmp_path / "x.safetensors", card)
    assert main(["checkpoint", "export", str(tmp_path / "x.safetensors"), "--format", "torch"]) == 0
    shown = capsys.readouterr().out
    assert "largest difference" in shown
    assert [line.split()[0] for line in shown.splitlines()[1:4]] == ["8", "20", "32"]
    extra = {"card.json": ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    assert json.loads(extra["card.json"])["name"] == card.name
    inputs = example_inputs(net.spec, 52)
    with torch.no_grad():
        theirs = list(program(*inputs))
    assert largest_difference(reference_run(net, net.spec)(*inputs), theirs) <= checking.TOLERANCE


def test_the_file_contains_modality_names_and_card() -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    _, card = model("temporalmaxer")
    graph = onnx.load_from_string(as_onnx("temporalmaxer"))
    assert [x.name for x in graph.graph.input] == ["rgb", "flow", "mask"]
    kinds = [f"{kind}_{level}" for kind in ("logits", "offsets") for level in range(2)]
    assert [x.name for x in graph.graph.output] == kinds
    length = graph.graph.input[0].type.tensor_type.shape.dim[2]
    assert not length.HasField("dim_value")
    (text,) = (p.value for p in graph.metadata_props if p.key == CARD)
    assert ModelCard.model_validate_json(text) == card


def test_a_graph_with_another_output_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, card = model("temporalmaxer")
    save_model(net, tmp_path / "x.safetensors", card)

    def wrong(*args: Any) -> exporting.Exported:
        detector = reference_run(net, net.spec)
        return exporting.Exported(b"", lambda streams, mask: [x + 1e-3 for x in detector(streams, mask)])

    monkeypatch.setattr(checking, "export", wrong)
    assert main(["checkpoint", "export", str(tmp_path / "x.safetensors"), "--format", "torch"]) == 1
    assert "the graph differs by 1.0e-03, tolerance 1e-04" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    net, card = model("temporalmaxer")
    save_model(net, tmp_path / "x.safetensors", card)
    assert main(["checkpoint", "export", str(tmp_path / "x.safetensors")]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "pip install 'tal-bench[onnx]'" in shown


def test_largest_difference_of_nan_and_other_shapes_is_infinite() -> None:
    x = torch.tensor([1.0, 200.0])
    assert largest_difference([x], [x + torch.tensor([0.0, 0.2])]) == pytest.approx(1e-3, rel=1e-3)
    assert largest_difference([x], [x * torch.nan]) == float("inf")
    assert largest_difference([x], [x[:1]]) == float("inf")


@given(st.integers(1, 400), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_nearest_rounds_like_the_library(before: int, after: int) -> None:
    x = torch.arange(float(before))[None]
    assert torch.equal(nearest(x, after), F.interpolate(x[:, None], size=after)[:, 0])


@pytest.mark.parametrize("length", [1, 30, 64, 65, 96, 160])
def test_interpolated_positions_equal_those_of_the_model(length: int) -> None:
    net, _ = model("actionformer")
    table = net.backbone.positions
    assert table is not None
    torch.testing.assert_close(_interpolated(table, length), net.backbone._positions(length))
