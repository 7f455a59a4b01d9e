"""Import of checkpoints of the original programs: every weight is matched, or the file is refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from original_files import write_checkpoint, write_configuration
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.cli import main
from tal_bench.converters.checkpoint_import import file_stem, import_checkpoint
from tal_bench.converters.original_shapes import published_ranges
from tal_bench.errors import InputError
from tal_bench.models.checkpoint import load_model, read_card
from tal_bench.models.detector import Detector

EXCERPT = Path(__file__).parents[2] / "parity" / "excerpt"
NAME = "af_win19_T144_thresh"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of a small ActionFormer, with the original names."""
    tensors = load_file(EXCERPT / f"{NAME}.safetensors")
    return {name.removeprefix("param/"): x for name, x in tensors.items() if name.startswith("param/")}


@pytest.fixture(scope="module")
def arguments() -> dict[str, Any]:
    """Its constructor arguments."""
    meta = json.loads((EXCERPT / f"{NAME}.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = meta["model_kwargs"]
    return found


def ask(*words: object) -> int:
    return main([str(word) for word in ("checkpoint", "import", *words)])


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *words: object) -> str:
    """Return the one-line error of a command, which must write nothing."""
    before = sorted(folder.rglob("*"))
    assert ask(*words, "--out", folder / "out") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1, shown.err
    assert sorted(folder.rglob("*")) == before
    return shown.err


def test_the_command_reports_matched_weights(
    state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(tmp_path / "epoch_035.pth.tar", state)
    assert ask(file, "--as", "actionformer", "--out", tmp_path) == 0
    shown = capsys.readouterr()
    assert f"{len(state)} matched, 0 unknown, 0 missing" in shown.out
    assert "state_dict_ema of epoch 35" in shown.out
    assert "no --config" in shown.err
    net, card = load_model(tmp_path / "actionformer-epoch_035.json")
    assert (card.name, card.program, card.model) == ("actionformer-epoch_035", "ActionFormer", "")
    assert isinstance(net, Detector)
    assert not net.training
    assert json.loads((tmp_path / "actionformer-epoch_035.json").read_text())["name"] == card.name


def test_averaged_or_raw_weights(state: State, tmp_path: Path) -> None:
    raw = {name: x + 1 for name, x in state.items()}
    file = write_checkpoint(tmp_path / "a.pth.tar", state, raw)
    ema = import_checkpoint(file, "actionformer")
    other = import_checkpoint(file, "actionformer", raw=True)
    assert (ema.part, other.part) == ("state_dict_ema", "state_dict")
    for x, y in zip(ema.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(x + 1, y)
    torch.save(state, tmp_path / "bare.pth")
    bare = import_checkpoint(tmp_path / "bare.pth", "actionformer")
    assert (bare.part, bare.epoch, bare.card.name) == ("", None, "actionformer-bare")


def test_a_teacher_stored_as_the_student_is_reported(state: State, tmp_path: Path) -> None:
    other = {name: x for name, x in state.items() if "branch" not in name}
    file = write_checkpoint(tmp_path / "a.pth.tar", state, other)
    assert any("another network" in note for note in import_checkpoint(file, "actionformer").notes)


def test_unused_weights_are_left_out(state: State, tmp_path: Path) -> None:
    more = {**state, "point_generator.buffer_points.0": torch.zeros(3, 4)}
    found = import_checkpoint(write_checkpoint(tmp_path / "a.pth.tar", more), "actionformer")
    assert (found.matched, found.unused) == (len(state), ("point_generator.buffer_points.0",))


def test_a_stored_table_of_positions_sets_the_position_embedding(state: State, tmp_path: Path) -> None:
    more = {**state, "backbone.pos_embd": torch.zeros(1, 32, 288)}
    spec = import_checkpoint(write_checkpoint(tmp_path / "a.pth.tar", more), "actionformer").card.detector
    assert (spec.position_embedding, spec.max_length) == (True, 288)


def test_the_configuration_gives_settings_that_weights_do_not(
    state: State, arguments: dict[str, Any], tmp_path: Path
) -> None:
    file = write_checkpoint(tmp_path / "a.pth.tar", state)
    config = write_configuration(tmp_path / "a.yaml", {**arguments, "use_abs_pe": True, "n_mha_win_size": 9})
    found = import_checkpoint(file, "actionformer", config=config)
    spec, card = found.card.detector, found.card
    assert (spec.position_embedding, spec.attention_window, spec.max_length) == (True, 9, 144)
    assert card.features is not None
    assert (card.features.stride, card.features.window, card.features.fps) == (4.0, 16.0, None)
    assert card.decode.min_score == arguments["test_cfg"]["min_score"]
    assert found.notes == ()


def test_channels_name_the_modalities(state: State, tmp_path: Path) -> None:
    file = write_checkpoint(tmp_path / "a.pth.tar", state)
    assert ask(file, "--as", "actionformer", "--out", tmp_path, "--channels", "acc=60,gyro=4") == 0
    spec = read_card(tmp_path / "actionformer-a.safetensors").detector
    assert (dict(spec.primary), dict(spec.privileged)) == ({"acc": 60}, {"gyro": 4})


@pytest.mark.parametrize(
    ("name", "plain"),
    [("epoch_034.pth.tar", "epoch_034"), ("a b.tar", "a_b"), ("best.ckpt", "best"), ("x", "x")],
)
def test_names_are_derived_from_files(name: str, plain: str) -> None:
    assert file_stem(Path(name)) == plain


def test_published_ranges() -> None:
    assert published_ranges(6) == [(0, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 10000)]


class Code:
    """Unpickling runs a command."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def without(state: State, part: str) -> State:
    return {name: x for name, x in state.items() if part not in name}


def changed(state: State, name: str, value: Tensor) -> State:
    assert name in state
    return {**state, name: value}


LOGITS = "cls_head.cls_head.conv.weight"
DAMAGED: dict[str, Callable[[Path, State], object]] = {
    "missing": lambda file, state: None,
    "a folder": lambda file, state: file.mkdir(),
    "empty": lambda file, state: file.write_bytes(b""),
    "text": lambda file, state: file.write_text("model: actionformer\n"),
    "a web page": lambda file, state: file.write_text("<!DOCTYPE html><html>sign in to download</html>"),
    "zip without data": lambda file, state: zipfile.ZipFile(file, "w").close(),
    "zip of something else": lambda file, state: zipped(file),
    "half a file": lambda file, state: half(write_checkpoint(file, state)),
    "pickle": lambda file, state: file.write_bytes(pickle.dumps({"state_dict": {"a": 1}})),
    "a list": lambda file, state: torch.save([1, 2], file),
    "a tensor": lambda file, state: torch.save(torch.zeros(3), file),
    "an empty dict": lambda file, state: torch.save({}, file),
    "no tensors": lambda file, state: torch.save({"state_dict_ema": {"a": 1.0}}, file),
    "weights of nothing": lambda file, state: torch.save({"state_dict_ema": None}, file),
    "numbers as names": lambda file, state: torch.save({"state_dict_ema": {1: torch.zeros(2)}}, file),
    "raw alone": lambda file, state: torch.save({"state_dict": state}, file),
    "names twice": lambda file, state: torch.save(
        {"state_dict_ema": {**state, **{f"module.{k}": x for k, x in state.items()}}}, file
    ),
    "another network": lambda file, state: torch.save(nn.Linear(3, 3).state_dict(), file),
    "no classifier": lambda file, state: write_checkpoint(file, without(state, "cls_head")),
    "no scales": lambda file, state: write_checkpoint(file, without(state, "reg_head.scale")),
    "a weight too few": lambda file, state: write_checkpoint(file, without(state, "branch.1.ln1.weight")),
    "a block too few": lambda file, state: write_checkpoint(file, without(state, "backbone.branch.1.")),
    "a weight too many": lambda file, state: write_checkpoint(file, {**state, "head.x": torch.zeros(2)}),
    "another shape": lambda file, state: write_checkpoint(
        file, changed(state, "backbone.branch.0.mlp.0.bias", torch.zeros(7))
    ),
    "a flat classifier": lambda file, state: write_checkpoint(
        file, changed(state, LOGITS, torch.zeros(5, 32))
    ),
    "an even kernel": lambda file, state: write_checkpoint(
        file, changed(state, LOGITS, torch.zeros(5, 32, 4))
    ),
    "no classes": lambda file, state: write_checkpoint(file, changed(state, LOGITS, torch.zeros(0, 32, 3))),
    "not finite": lambda file, state: write_checkpoint(
        file, changed(state, LOGITS, torch.full((5, 32, 3), float("nan")))
    ),
}


def zipped(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")


def half(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_and_other_files_are_refused(
    what: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGED[what](tmp_path / "x.pth.tar", state)
    assert "x.pth.tar" in refused(capsys, tmp_path, tmp_path / "x.pth.tar", "--as", "actionformer")


@pytest.mark.parametrize("zipped_file", [True, False])
def test_code_in_a_checkpoint_is_not_run(
    zipped_file: bool, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, trace = tmp_path / "x.pth.tar", tmp_path / "it ran"
    torch.save(
        {"state_dict_ema": state, "extra": Code(trace)}, file, _use_new_zipfile_serialization=zipped_file
    )
    text = refused(capsys, tmp_path, file, "--as", "actionformer")
    assert "refused, not run" in text
    assert not trace.exists()
    with file.open("rb"):  # shows that the file does run code
        torch.load(file, weights_only=False)  # nosec
    assert trace.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--as", "tridet"], "not weights of TriDet"),
        (["--as", "temporalmaxer"], "--as actionformer or c2ms"),
        (["--as", "detr"], "--as detr"),
        (["--as", "actionformer", "--channels", "rgb=10"], "10 channels, the weights read 64"),
        (["--as", "actionformer", "--channels", "rgb"], "--channels"),
        (["--as", "actionformer", "--name", "../x"], "--name"),
        (["--as", "actionformer", "--dataset", "nosuch"], "nosuch"),
    ],
)
def test_flags_that_do_not_fit(
    words: list[str], expected: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(tmp_path / "x.pth.tar", state)
    assert expected in refused(capsys, tmp_path, file, *words)


CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "another width": ({"embd_dim": 64, "fpn_dim": 64}, "width 64 in the file, 32 in the weights"),
    "other classes": ({"num_classes": 20}, "classes 20 in the file, 5 in the weights"),
    "other streams": ({"input_dim": 2048}, "input channels 2048 in the file, 64 in the weights"),
    "another backbone": ({"backbone_type": "conv"}, "structure conv in the file"),
    "an unknown backbone": ({"backbone_type": "mamba"}, "backbone_type 'mamba'"),
    "another scale": ({"scale_factor": 3}, "scale_factor 3"),
    "depths in words": ({"backbone_arch": "deep"}, "not a configuration of ActionFormer"),
    "too few ranges": ({"regression_range": [[0, 4]]}, "regression_ranges"),
    "a length of its own": ({"max_seq_len": 100}, "max_length"),
}


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_a_configuration_of_something_else(
    what: str, state: State, arguments: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, expected = CONFIGURATIONS[what]
    file = write_checkpoint(tmp_path / "x.pth.tar", state)
    config = write_configuration(tmp_path / "a.yaml", {**arguments, **changes})
    text = refused(capsys, tmp_path, file, "--as", "actionformer", "--config", config)
    assert "a.yaml" in text
    assert expected in text


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "a: [", "opt: {}", "model: 3", "\x00", "!!python/object:x.Y {}"]
)
def test_a_file_that_is_no_configuration(
    text: str, state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(tmp_path / "x.pth.tar", state)
    (tmp_path / "a.yaml").write_text(text)
    assert "a.yaml" in refused(
        capsys, tmp_path, file, "--as", "actionformer", "--config", tmp_path / "a.yaml"
    )


@given(st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_whatever_bytes_come_they_import_or_are_refused(
    state: State, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    file = write_checkpoint(folder / "x.pth.tar", state)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    file.write_bytes(bytes(content[:cut]))
    try:
        import_checkpoint(file, "actionformer")
    except InputError as error:
        assert "x.pth.tar" in str(error)


class Norm(nn.Module):
    """LayerNorm over channels of [B, C, T], its weights [1, C, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(1, channels, 1))
        self.bias = nn.Parameter(0.1 * torch.randn(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), x.shape[1:2]).transpose(1, 2) * self.weight + self.bias


class Masked(nn.Module):
    def __init__(self, c_in: int, c_out: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(c_in, c_out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.conv(x) * mask
        return out


class Scale(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(value))


class Head(nn.Module):
    def __init__(self, width: int, outputs: int, name: str) -> None:
        super().__init__()
        self.head = nn.ModuleList(Masked(width, width, False) for _ in range(2))
        self.norm = nn.ModuleList(Norm(width) for _ in range(2))
        self.add_module(name, Masked(width, outputs, True))
        self.name = name

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for conv, norm in zip(self.head, self.norm, strict=True):
            x = norm(conv(x, mask)).relu()
        out: Tensor = getattr(self, self.name)(x, mask)
        return out


class PlainTemporalMaxer(nn.Module):
    """TemporalMaxer in plain library calls, its weights under the original's names (arXiv 2303.09055).

    Its neck has no weights: every level is normalised in four groups of channels, over all steps.
    """

    def __init__(self, channels: int, width: int, classes: int, levels: int) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.embd = nn.ModuleList([Masked(channels, width, False), Masked(width, width, False)])
        self.backbone.embd_norm = nn.ModuleList(Norm(width) for _ in range(2))
        self.cls_head, self.reg_head = Head(width, classes, "cls_head"), Head(width, 2, "offset_head")
        self.reg_head.scale = nn.ModuleList(Scale(1 + 0.1 * level) for level in range(levels))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        for conv, norm in zip(self.backbone.embd, self.backbone.embd_norm, strict=True):
            x = norm(conv(x, mask)).relu()
        logits, offsets = [], []
        for level, scale in enumerate(self.reg_head.scale):
            if level:
                mask = mask[..., ::2]
                x = F.max_pool1d(x, 3, stride=2, padding=1) * mask
            normed = F.group_norm(x, 4)
            logits.append(self.cls_head(normed, mask).transpose(1, 2))
            offsets.append((self.reg_head(normed, mask) * scale.scale).relu().transpose(1, 2))
        return logits, offsets


@torch.no_grad()
def test_temporalmaxer_says_what_plain_calls_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    plain = PlainTemporalMaxer(12, 16, 3, 4).eval()
    state = plain.state_dict()
    arguments = {"input_dim": 12, "num_classes": 3, "max_seq_len": 64, "embd_dim": 16, "fpn_dim": 16}
    arguments |= {"head_dim": 16, "backbone_arch": [2, 3], "regression_range": published_ranges(4)}
    file = write_checkpoint(tmp_path / "bestmodel.pth.tar", state)
    config = write_configuration(
        tmp_path / "thumos.yaml", json.loads(json.dumps(arguments)), test_cfg={"max_seg_num": 77}
    )
    assert ask(file, "--as", "temporalmaxer", "--config", config, "--out", tmp_path) == 0
    assert f"{len(state)} matched" in capsys.readouterr().out
    net, card = load_model(tmp_path / "temporalmaxer-bestmodel.safetensors")
    assert isinstance(net, Detector)
    assert (card.detector.neck_norm, card.decode.max_detections) == ("group", 77)
    for length in (64, 96):
        mask = torch.arange(length)[None] < length - 11
        x = torch.randn(1, 12, length) * mask[:, None]
        ours = net.detect({"rgb": x[:, :6], "flow": x[:, 6:]}, mask)
        logits, offsets = plain(x, mask[:, None].float())
        torch.testing.assert_close(ours.logits, logits, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(ours.offsets, offsets, atol=2e-5, rtol=1e-5)


def test_numbers_of_numpy_beside_weights_are_read(state: State, tmp_path: Path) -> None:
    for index, number in enumerate((np.float64(0.5), np.float32(0.5), np.int64(3))):
        file = tmp_path / f"{index}.pth.tar"
        torch.save({"state_dict_ema": state, "mAP": number}, file)
        assert import_checkpoint(file, "actionformer").matched == len(state)
