"""Malformed weights files: original ones in `checkpoint import`, own ones as a teacher and in `export`."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from malformed import (
    Case,
    answered,
    call,
    cases,
    damaged,
    dataset_file,
    disturbed,
    empty_place,
    refused,
    tripwire,
)
from original_files import write_checkpoint, write_configuration
from safetensors.torch import load_file, save, save_file

EXCERPT = Path(__file__).parents[2] / "parity" / "excerpt" / "af_win19_T144_thresh.safetensors"
FILE, CONFIG, OURS = "epoch_035.pth.tar", "original.yaml", "ours.safetensors"
CARD = "tal_bench.card"


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return {k.removeprefix("param/"): v for k, v in load_file(EXCERPT).items() if k.startswith("param/")}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    """Valid files: an original checkpoint and its configuration, an own weights file, a matching dataset."""
    folder = tmp_path_factory.mktemp("good") / "files"
    dataset_file(folder)
    arguments = json.loads(EXCERPT.with_suffix(".json").read_text())["model_kwargs"]
    file = write_checkpoint(folder / FILE, weights)
    write_configuration(folder / CONFIG, arguments)
    words = ("checkpoint", "import", file, "--as", "actionformer", "--name", "ours", "--out", folder)
    code, _, err = call(*words, "--config", folder / CONFIG)
    assert code == 0, err
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "files"
    copy.mkdir()
    for path in good.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    with empty_place(tmp_path):
        yield copy


def words(folder: Path, program: str = "actionformer") -> list[object]:
    return ["checkpoint", "import", folder / FILE, "--as", program]


def raw(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / FILE).write_bytes(content)


def saved(content: Any) -> Callable[[Path], None]:
    return lambda folder: torch.save(content, folder / FILE)


def states(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return a function that writes the averaged weights after a change."""

    def make(folder: Path) -> None:
        state = {k.removeprefix("param/"): v for k, v in load_file(EXCERPT).items() if k.startswith("param/")}
        change(state)
        write_checkpoint(folder / FILE, state)

    return make


def cut(share: float) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        content = (folder / FILE).read_bytes()
        (folder / FILE).write_bytes(content[: int(len(content) * share)])

    return make


def without(word: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for key in [key for key in state if word in key]:
            del state[key]

    return change


def not_finite(state: dict[str, Any]) -> None:
    key = next(key for key in state if key.endswith("weight"))
    state[key] = torch.full_like(state[key], float("nan"))


def narrowed(state: dict[str, Any]) -> None:
    key = next(key for key in state if "cls_head.head.1" in key and key.endswith("weight"))
    state[key] = state[key][:-1]


def emptied(folder: Path) -> None:
    content = {"state_dict": {"a": torch.zeros(1)}, "epoch": 1}
    torch.save(content, folder / FILE)


@cases(
    ("no such file", lambda folder: (folder / FILE).unlink(), ("no such file",)),
    ("a folder", lambda folder: ((folder / FILE).unlink(), (folder / FILE).mkdir()), ("not a file",)),
    ("empty", raw(b""), ("empty file",)),
    ("text", raw(b"not weights at all\n"), ("not a PyTorch checkpoint",)),
    ("cut in the middle", cut(0.5), ("not a PyTorch checkpoint",)),
    ("cut at the start", cut(0.01), ("not a PyTorch checkpoint",)),
    ("a list", saved([1, 2]), ("contains a list",)),
    ("a tensor", saved(torch.zeros(3)), ("contains a Tensor",)),
    ("nothing", saved({}), ("contains no weights",)),
    ("raw weights alone", emptied, ("no 'state_dict_ema', only 'state_dict'", "--raw")),
    ("weights that are none", saved({"state_dict_ema": {"a": 1}}), ("'a' is not a tensor",)),
    ("weights as list", saved({"state_dict_ema": [1]}), ("'state_dict_ema' contains no weights",)),
    ("no weights", saved({"state_dict_ema": {}}), ("'state_dict_ema' contains no weights",)),
    ("weights of something else", saved({"conv1.weight": torch.zeros(4, 4)}), (FILE,)),
    ("a layer missing", states(without("reg_head.head.0")), (FILE,)),
    ("a layer more", states(lambda state: state.update(more=torch.zeros(2))), ("more",)),
    ("a class less", states(narrowed), (FILE,)),
    ("not finite", states(not_finite), ("not finite",)),
)  # fmt: skip
def test_an_original_checkpoint(case: Case, folder: Path) -> None:
    case.make(folder)
    err, out = refused(*words(folder))
    assert str(folder / FILE) in err
    assert all(word in err for word in case.words), err
    assert out == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--channels", "rgb=3"], "--channels rgb=3: 3 channels, the weights read 64"),
        (["--channels", "rgb"], "--channels: got 'rgb'"),
        (["--name", "../x"], "--name"),
        (["--config", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_flags(flags: list[str], said: str, folder: Path) -> None:
    err, _ = refused(*words(folder), *flags)
    assert said in err, err


def test_another_program(folder: Path) -> None:
    err, _ = refused(*words(folder, "tridet"))
    assert f"{folder / FILE}: not weights of TriDet (try --as actionformer" in err
    err, _ = refused(*words(folder, "detr"))
    assert "--as detr: 'detr' is not one of 'actionformer'" in err


def config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        value = yaml.safe_load((folder / CONFIG).read_text())
        change(value)
        (folder / CONFIG).write_text(yaml.safe_dump(value))

    return make


@cases(
    ("empty", lambda folder: (folder / CONFIG).write_text(""), ("no 'dataset' and no 'model'",)),
    ("a list", lambda folder: (folder / CONFIG).write_text("- 1\n"), ("no 'dataset' and no 'model'",)),
    ("model as list", config(lambda value: value.update(model=[1])), ("'model' is not a mapping", "[1]")),
    ("unknown backbone", config(lambda value: value["model"].update(backbone_type="mamba")), ("'mamba'",)),
    ("other width", config(lambda value: value["model"].update(embd_dim=64, fpn_dim=64)), ("width 64",)),
    ("width as text", config(lambda value: value["model"].update(embd_dim="wide")), (CONFIG,)),
    ("no ranges", config(lambda value: value["model"].update(regression_range=3)), (CONFIG,)),
    ("levels as text", config(lambda value: value["model"].update(backbone_arch="2,2,3")), (CONFIG,)),
    ("stride as text", config(lambda value: value["dataset"].update(feat_stride="four")), (CONFIG,)),
    ("unknown suppression", config(lambda value: value["test_cfg"].update(nms_method="none?")), (CONFIG,)),
)  # fmt: skip
def test_a_configuration_beside_it(case: Case, folder: Path) -> None:
    case.make(folder)
    err, _ = refused(*words(folder), "--config", folder / CONFIG)
    assert str(folder / CONFIG) in err
    assert all(word in err for word in case.words), err


def card(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return a function that changes the card in the header of the own weights file."""

    def make(folder: Path) -> None:
        value = json.loads((folder / "ours.json").read_text())
        change(value)
        save_file(load_file(folder / OURS), folder / OURS, {CARD: json.dumps(value)})

    return make


def header(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / OURS).write_bytes(content)


def other_weights(folder: Path) -> None:
    save_file({"a": torch.zeros(1)}, folder / OURS, {CARD: (folder / "ours.json").read_text()})


OURS_TABLE = cases(
    ("no such file", lambda folder: (folder / OURS).unlink(), ("no such weights",)),
    ("empty", header(b""), ("not a .safetensors file",)),
    ("text", header(b"not weights at all, but a text"), ("not a .safetensors file",)),
    ("header too long", header(b"\xff" * 8 + b"{}"), ("not a .safetensors file",)),
    ("header of another form", header((2).to_bytes(8, "little") + b"[]"), ("not a .safetensors file",)),
    ("cut", lambda folder: header((folder / OURS).read_bytes()[:-9])(folder), (OURS,)),
    ("no card", header(save({"a": torch.zeros(1)})), ("no model card",)),
    ("card that is no JSON", header(save({"a": torch.zeros(1)}, {CARD: "{"})), ("model card",)),
    ("card without an architecture", card(lambda value: value.pop("detector")), ("model card", "detector")),
    ("unknown key in the card", card(lambda value: value.update(more=1)), ("model card", "more")),
    ("other width in the card", card(lambda value: value["detector"].update(width=64)), (OURS,)),
    ("weights of something else", other_weights, (OURS,)),
)  # fmt: skip


@OURS_TABLE
def test_our_weights_as_a_teacher(case: Case, folder: Path, good: Path) -> None:
    case.make(folder)
    err, out = refused(
        "ablate", "--dataset", good / "small.yaml", "--teacher", folder / OURS, "--tracking-uri", "off"
    )
    assert str(folder / OURS) in err
    assert all(word in err for word in case.words), err
    assert out == ""


@OURS_TABLE
def test_our_weights_to_be_exported(case: Case, folder: Path) -> None:
    case.make(folder)
    err, out = refused("checkpoint", "export", folder / OURS, "--format", "torch")
    assert str(folder / OURS) in err
    assert all(word in err for word in case.words), err
    assert out == ""
    assert not list(folder.glob("*.pt2"))


def test_weights_of_a_model_that_nobody_declared(folder: Path) -> None:
    card(lambda value: value.update(model="mamba"))(folder)
    err, _ = refused("checkpoint", "export", folder / OURS, "--format", "torch")
    assert f"{folder / OURS}: unknown model 'mamba'" in err
    assert "--plugin" in err


def old(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [torch.save, old, plain])
@pytest.mark.parametrize("place", ["at the top", "beside the weights", "among the weights"])
def test_a_pickle_is_refused_and_not_run(
    write: Callable[[Any, Path], None], place: str, folder: Path, weights: dict[str, torch.Tensor]
) -> None:
    bomb = tripwire(folder)
    content = {
        "at the top": bomb,
        "beside the weights": {"state_dict_ema": weights, "args": bomb},
        "among the weights": {"state_dict_ema": {**weights, "args": bomb}},
    }[place]
    write(content, folder / FILE)
    err, _ = refused(*words(folder))
    assert str(folder / FILE) in err
    assert "refused, not run" in err or "not a PyTorch checkpoint" in err
    for flag in (["ablate", "--teacher"], ["checkpoint", "export"]):
        refused(*flag, folder / FILE)
    assert not (folder / "exploded").exists()
    if write is plain:
        pickle.loads((folder / FILE).read_bytes())
    else:
        torch.load(folder / FILE, weights_only=False)
    assert (folder / "exploded").exists(), "the file runs code when it is loaded unsafely"


def test_damaged_files_are_answered(good: Path) -> None:
    content = (good / FILE).read_bytes()

    @settings(max_examples=6, deadline=None)
    @given(damaged(content), st.data())
    def run(bad: bytes, data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / FILE).write_bytes(bad)
            answered(*words(folder), "--out", folder / "out")
            (folder / FILE).write_bytes(content)
            value = data.draw(disturbed(yaml.safe_load((good / CONFIG).read_text())))
            (folder / CONFIG).write_text(yaml.safe_dump(value))
            answered(*words(folder), "--config", folder / CONFIG, "--out", folder / "out")

    run()
