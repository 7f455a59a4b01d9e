"""A structure from outside the tree has students and teachers as soon as its plugin is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_spec

from tal_bench import plugins
from tal_bench.cli import main
from tal_bench.config import DatasetSpec, DetectorSpec
from tal_bench.config.dataset import Overrides
from tal_bench.errors import InputError
from tal_bench.models.backbone import pyramid_divisor
from tal_bench.models.checkpoint import ModelCard, load_model, save_model
from tal_bench.models.detector import Detector
from tal_bench.models.registry import (
    decoding_recipe,
    detector_spec,
    get_model,
    students,
    teachers,
    training_recipe,
)
from tal_bench.models.structures import structures
from tal_bench.types import Batch

PLUGIN = '''
"""A structure whose blocks mix the channels of single steps."""
from torch import nn

from tal_bench.models.structures import Structure, structures


class ToyBlock(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.stride = stride
        self.mix = nn.Linear(width, width)

    def forward(self, x, mask):
        mask = mask[:, :: self.stride]
        return self.mix(x[:, :: self.stride]).relu() * mask, mask


structures.add(
    "toy",
    Structure(
        lambda spec, index, stride: ToyBlock(spec.width, stride),
        detector={"attention_window": 1, "stem_blocks": 1, "head_layers": 1},
        training={"small": {"iou_power": 0.5}},
        decoding={"small": {"max_detections": 7}},
        padding=lambda spec: [3] * (spec.branch_blocks + 1),
        width_multiple=16,
    ),
)
'''
SUFFIXES = ("", "-ta", "-small", "-ta-small")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """File with a structure that is loaded for the duration of the test."""
    monkeypatch.setattr(plugins, "_loaded", set())
    registries: tuple[Any, ...] = (structures, students, teachers)
    before = [{name: registry.get(name) for name in registry} for registry in registries]
    file = tmp_path / "toy.py"
    file.write_text(PLUGIN, encoding="utf-8")
    plugins.load_plugins([file])
    yield file
    for registry, entries in zip(registries, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)
    assert "toy" not in structures


def dataset(**changes: Any) -> DatasetSpec:
    return tiny_spec().model_copy(update={"max_length": 256, **changes})


def batch(spec: DetectorSpec) -> Batch:
    """Random features of two videos of 64 and 40 steps."""
    torch.manual_seed(0)
    mask = torch.arange(64) < torch.tensor([64, 40])[:, None]
    channels = {**spec.primary, **spec.privileged}
    features = {name: torch.randn(2, channels[name], 64) * mask[:, None] for name in spec.reads}
    return Batch(features, mask, torch.zeros(2, 1, 2), torch.full((2, 1), -1), [])


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["toy-primary", "toy-hallucinated", "toy", "toy-privileged"])
def test_models_of_the_structure_detect(name: str, tmp_path: Path) -> None:
    spec = detector_spec(get_model(name), dataset(), 3)
    assert (spec.structure, spec.stem_blocks, spec.head_layers) == ("toy", 1, 1)
    net = get_model(name).build(spec).eval()
    assert isinstance(net, Detector)
    assert {type(block).__name__ for block in (*net.backbone.stem, *net.backbone.branch)} == {"ToyBlock"}
    given = batch(spec)
    with torch.no_grad():
        output = net(given)
    assert [tuple(x.shape) for x in output.logits] == [(2, 64 // s, 3) for s in spec.level_strides]
    assert all(bool(x.isfinite().all()) for x in (*output.logits, *output.offsets))
    assert all(not logits[~mask].any() for logits, mask in zip(output.logits, output.mask, strict=True))

    card = ModelCard(name=name, model=name, detector=spec)
    save_model(net, tmp_path / "x.safetensors", card)
    again, read = load_model(tmp_path / "x.safetensors")
    assert read == card
    with torch.no_grad():
        assert all(torch.equal(x, y) for x, y in zip(output.logits, again(given).logits, strict=True))


@pytest.mark.usefixtures("plugin")
def test_recipes_and_requirements_of_the_structure_apply() -> None:
    model, own = get_model("toy"), Overrides(detector={"width": 32}, training={"iou_power": 0.7})
    assert training_recipe(model, dataset()).iou_power == 0.5
    assert decoding_recipe(model, dataset()).max_detections == 7
    changed = dataset(models={"toy": own})
    assert training_recipe(model, changed).iou_power == 0.7
    spec = detector_spec(model, changed, 3)
    assert spec.width == 32
    assert pyramid_divisor(spec) == 3 * spec.level_strides[-1]
    bad = dataset(models={"toy": Overrides(detector={"width": 40})})
    with pytest.raises(InputError, match=r"model 'toy' on dataset .* width: 40 is not a multiple of 16"):
        detector_spec(model, bad, 3)


def test_models_of_the_structure_are_listed(
    plugin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # the grid fits
    assert {f"toy-{read}{s}" for read in ("primary", "hallucinated", "decomposed") for s in SUFFIXES} <= set(
        students
    )
    assert {f"toy{read}{s}" for read in ("", "-privileged") for s in SUFFIXES} <= set(teachers)
    assert main(["list", "students", "--plugin", str(plugin)]) == 0
    assert re.search(
        r"^toy +toy-primary +toy-hallucinated +toy-decomposed *$", capsys.readouterr().out, re.MULTILINE
    )


@pytest.mark.usefixtures("plugin")
def test_models_are_added_before_the_registries_of_models_are_loaded(plugin: Path) -> None:
    """In a fresh process, where the plugin is the first to use a registry."""
    code = (
        "from tal_bench.cli import main\n"
        f"for kind in ('students', 'teachers'): assert main(['list', kind, '--plugin', {str(plugin)!r}]) == 0"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {f"toy-{read}" for read in ("primary", "hallucinated", "decomposed")} <= set(listed.split())
    assert re.search(r"^toy +toy +toy-privileged *$", listed, re.MULTILINE)


@pytest.mark.parametrize("use", [Detector, pyramid_divisor])
def test_an_unknown_structure_is_refused(use: Callable[[DetectorSpec], object]) -> None:
    spec = detector_spec(get_model("tridet"), dataset(), 3).model_copy(update={"structure": "tridt"})
    with pytest.raises(InputError, match=r"^unknown structure 'tridt' \(did you mean 'tridet'\?\)$"):
        use(spec)


def test_a_weights_file_without_its_plugin_is_refused(tmp_path: Path) -> None:
    spec = detector_spec(get_model("conv"), dataset(), 3)
    card = ModelCard(name="x", program="test", detector=spec.model_copy(update={"structure": "toy"}))
    save_model(Detector(spec), tmp_path / "x.safetensors", card)
    with pytest.raises(InputError, match=r"x.safetensors: unknown structure 'toy' \(.*give its --plugin\)"):
        load_model(tmp_path / "x.safetensors")
