"""Commands on invalid videos, models and flags: one line on stderr, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import noise_frames, write_clip
from safetensors.torch import save_file
from test_backbone_weights import NET
from torch import zeros

from tal_bench.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip, and files whose content does not match their name."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write_clip(folder / "clip.mkv", noise_frames(12), fps=25)
    (folder / "text.safetensors").write_text("not weights at all\n")
    (folder / "empty.safetensors").touch()
    save_file({"a": zeros(2)}, folder / "others.safetensors")
    (folder / "run.json").write_text("{}")
    (folder / "void").mkdir()
    (folder / "study").mkdir()
    (folder / "study" / "study.json").write_text("{")
    (folder / "file").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path / "cache"))
    return folder


MODELS = [
    ("nowhere.safetensors", "nowhere.safetensors: no such"),
    ("text.safetensors", "text.safetensors: not a .safetensors file"),
    ("empty.safetensors", "empty.safetensors: not a .safetensors file"),
    ("others.safetensors", "others.safetensors: the weights file has no model card"),
    ("run.json", "run.safetensors: no such weights file (run.json has no weights file beside it)"),
    ("void", "void: no .safetensors file found"),
]
EXTRACT = [
    (["--backbone", "efficientnet_lite99"], "--backbone: timm has no model 'efficientnet_lite99'"),
    (["--weights", "mine.pth"], "--weights mine.pth: no such file"),
    (["--weights", "text.safetensors"], "text.safetensors: not a weights file"),
    (["--size", "big"], "--size: got 'big'"),
    (["--size", "4"], "--size"),
    (["--fps", "fast"], "--fps: got 'fast'"),
    (["--fps", "0"], "--fps"),
    (["--modality", "sound"], "--modality"),
    (["--flow", "raft"], "--flow"),
    (["--window", "1"], "window"),
    (["--stride", "0"], "--stride"),
    (["--jobs", "0"], "--jobs"),
]


def check_rejected(args: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {f: f.stat().st_mtime_ns for f in folder.rglob("*")}
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
    assert message in captured.err, captured.err
    assert {f: f.stat().st_mtime_ns for f in folder.rglob("*")} == before
    assert not (folder.parent / "cache").exists()


@pytest.mark.parametrize(("model", "message"), MODELS)
def test_detect_with_invalid_model(
    model: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_rejected(["detect", "clip.mkv", "--model", model, "--csv", "a.csv"], message, folder, capsys)


@pytest.mark.parametrize(("model", "message"), [*MODELS, ("study", "study.json: not a StudyRecord")])
def test_robustness_of_invalid_model(
    model: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = message.replace(
        "no such weights file (run.json has no weights file beside it)", "no such weights file"
    )
    check_rejected(["robustness", model, "--out", "out"], message, folder, capsys)


def test_robustness_cannot_be_written_into_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["robustness", "others.safetensors", "--out", "file"]
    check_rejected(args, "--out file: is a file", folder, capsys)


@pytest.mark.parametrize(("args", "message"), EXTRACT)
def test_extract_with_invalid_flags(
    args: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = {"--backbone": NET, "--weights": "random", "--size": "32"}
    defaults.pop(args[0], None)
    rest = [arg for pair in defaults.items() for arg in pair]
    check_rejected(["features", "extract", "clip.mkv", "--out", "out", *rest, *args], message, folder, capsys)


@pytest.mark.parametrize(
    ("videos", "out", "message"),
    [
        (["void"], "out", "void: contains no video"),
        (["clip.mkv", "study/../clip.mkv"], "out", "would both be written to clip.npy"),
        (["clip.mkv"], "file", "--out file: cannot be written"),
    ],
)
def test_extract_with_invalid_paths(
    videos: list[str], out: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["features", "extract", *videos, "--out", out, "--backbone", NET, "--weights", "random"]
    check_rejected([*args, "--size", "32"], message, folder, capsys)
