"""Commands that read videos and models, given what cannot be: one line, exit code 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import noise_frames, write_clip
from safetensors.torch import save_file
from test_backbone_weights import NET
from torch import zeros

from tal_bench.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip, and files that are not what they are called."""
    folder = tmp_path / "here"
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
    (["--weights", "text.safetensors"], "text.safetensors: not a file of weights"),
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


def refused(words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {f: f.stat().st_mtime_ns for f in here.rglob("*")}
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") and told.err.count("\n") == 1, told.err
    assert message in told.err, told.err
    assert {f: f.stat().st_mtime_ns for f in here.rglob("*")} == before
    assert not (here.parent / "cache").exists()


@pytest.mark.parametrize(("model", "message"), MODELS)
def test_detect_with_what_is_no_model(
    model: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["detect", "clip.mkv", "--model", model, "--csv", "a.csv"], message, here, capsys)


@pytest.mark.parametrize(("model", "message"), [*MODELS, ("study", "study.json: not a StudyRecord")])
def test_robustness_of_what_is_no_model(
    model: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = message.replace(
        "no such weights file (run.json has no weights file beside it)", "no such weights file"
    )
    refused(["robustness", model, "--out", "out"], message, here, capsys)


def test_robustness_cannot_be_written_into_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["robustness", "others.safetensors", "--out", "file"]
    refused(words, "--out file: is a file", here, capsys)


@pytest.mark.parametrize(("words", "message"), EXTRACT)
def test_extract_with_flags_that_cannot_be(
    words: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = {"--backbone": NET, "--weights": "random", "--size": "32"}
    usual.pop(words[0], None)
    rest = [word for pair in usual.items() for word in pair]
    refused(["features", "extract", "clip.mkv", "--out", "out", *rest, *words], message, here, capsys)


@pytest.mark.parametrize(
    ("videos", "out", "message"),
    [
        (["void"], "out", "void: no video there"),
        (["clip.mkv", "study/../clip.mkv"], "out", "would share the feature file clip.npy"),
        (["clip.mkv"], "file", "--out file: cannot be written"),
    ],
)
def test_extract_what_and_where_it_cannot_be(
    videos: list[str], out: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["features", "extract", *videos, "--out", out, "--backbone", NET, "--weights", "random"]
    refused([*words, "--size", "32"], message, here, capsys)
