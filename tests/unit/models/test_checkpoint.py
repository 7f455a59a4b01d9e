"""Weights files: model card, finding files, and hashes of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from study_parts import run_spec
from tiny import random_batch, tiny_spec
from torch import nn

from tal_bench.errors import InputError
from tal_bench.models.checkpoint import (
    CARD,
    ModelCard,
    card_of_run,
    load_model,
    read_card,
    save_model,
    weights_file,
    weights_hash,
)
from tal_bench.models.registry import get_model


def model(name: str = "conv-dw-hallucinated") -> tuple[nn.Module, ModelCard]:
    spec = run_spec(name)
    torch.manual_seed(0)
    return get_model(name).build(spec.detector).eval(), card_of_run(spec, ("jump", "run", "throw"))


@pytest.mark.parametrize(
    "name", ["conv-dw-hallucinated", "conv-dw-decomposed", "tridet-decomposed", "conv-primary"]
)
def test_a_moved_file_is_enough_to_load_the_model(name: str, tmp_path: Path) -> None:
    net, written = model(name)
    save_model(net, tmp_path / "runs" / "abc.safetensors", written)
    moved = tmp_path / "elsewhere.safetensors"
    (tmp_path / "runs" / "abc.safetensors").replace(moved)
    again, read = load_model(moved)
    assert read == written
    assert read.classes == ("jump", "run", "throw")
    assert read.dataset == tiny_spec()
    assert (read.model, read.detector.structure) == (name, name.rpartition("-")[0])
    assert not again.training
    batch = random_batch({"rgb": ("primary", 8)})
    with torch.no_grad():
        torch.testing.assert_close(again(batch).logits, net(batch).logits)


def test_paths_of_weights_files(tmp_path: Path) -> None:
    net, about = model()
    file = tmp_path / "runs" / "abc.safetensors"
    save_model(net, file, about)
    (tmp_path / "runs" / "abc.json").write_text("{}")
    for path in (file, file.with_suffix(".json"), tmp_path / "runs", tmp_path):
        assert weights_file(path) == file
    save_model(net, tmp_path / "runs" / "def.safetensors", about)
    with pytest.raises(InputError, match=r"2 models found, for instance abc\.safetensors, def\.safetensors"):
        weights_file(tmp_path / "runs")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("nothing", "no such weights"),
        ("a run without weights", r"no such weights file \(x.json has no weights file beside it\)"),
        ("an empty folder", "no .safetensors file found"),
        ("text", "not a .safetensors file"),
        ("no card", "no model card"),
        ("another card", "invalid model card: detector"),
        ("other weights", "do not fit this architecture"),
        ("a plugin's", "unknown model 'mine'"),
    ],
)
def test_other_files_are_refused(what: str, expected: str, tmp_path: Path) -> None:
    net, about = model()
    path = tmp_path / "x.safetensors"
    if what == "a run without weights":
        path = tmp_path / "x.json"
    elif what == "an empty folder":
        path.mkdir()
    elif what == "text":
        path.write_text("hello")
    elif what == "no card":
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path)
    elif what == "another card":
        save_file({"a": torch.zeros(1)}, path, {CARD: '{"name": "x", "detector": {"structure": "conv"}}'})
    elif what == "other weights":
        save_model(model("conv")[0], path, about)
    elif what == "a plugin's":
        save_model(net, path, about.model_copy(update={"model": "mine"}))
    with pytest.raises(InputError, match=expected):
        load_model(path)


def test_the_hash_depends_on_values_only(tmp_path: Path) -> None:
    net, about = model()
    first = weights_hash(net.state_dict())
    save_model(net, tmp_path / "a.safetensors", about)
    assert weights_hash(load_model(tmp_path / "a.safetensors")[0].state_dict()) == first
    assert weights_hash(dict(reversed(net.state_dict().items()))) == first
    next(net.parameters()).data += 1e-3
    assert weights_hash(net.state_dict()) != first


def test_the_card_describes_features_and_model(tmp_path: Path) -> None:
    net, about = model()
    save_model(net, tmp_path / "a.safetensors", about)
    read = read_card(tmp_path / "a.safetensors")
    assert read.features is not None
    assert (read.features.stride, read.features.window) == (5.0, 10.0)
    assert read.detector == about.detector
    assert read.as_model().is_student
    assert read.as_model().build(read.detector).state_dict().keys() == net.state_dict().keys()
