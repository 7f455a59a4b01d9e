"""Detection of actions in video files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from clips import noise_frames, write_clip
from test_backbone_weights import dataset, extraction

from tal_bench.cli import main
from tal_bench.config import ModalitySpec
from tal_bench.config.extraction import FILE, find_extraction
from tal_bench.errors import InputError
from tal_bench.evaluation.files import read_detections
from tal_bench.extraction.streams import complete
from tal_bench.inference.detect import detect
from tal_bench.models.checkpoint import ModelCard, save_model
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.report.common.timeline import Panel, timeline

CLASSES = ("jump", "run", "[bold]throw")
NAME = "conv-primary-small"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that reads the features of a tiny network, RGB alone."""
    folder = tmp_path_factory.mktemp("model")
    (folder / FILE).write_text(complete(extraction()).model_dump_json())
    streams = {
        name: ModalitySpec(role=role, folder=folder / name, channels=96)  # type: ignore[arg-type]
        for name, role in (("rgb", "primary"), ("flow", "privileged"))
    }
    data = dataset(folder, max_length=64, size="small").model_copy(update={"modalities": streams})
    spec = detector_spec(get_model(NAME), data, len(CLASSES))
    torch.manual_seed(0)
    card = ModelCard(
        name=NAME,
        model=NAME,
        detector=spec,
        classes=CLASSES,
        dataset=data,
        extraction=find_extraction(data, spec.reads),
    )
    save_model(get_model(NAME).build(spec), folder / "net.safetensors", card)
    (folder / FILE).unlink()
    return folder / "net.safetensors"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("clips")
    for k, count in enumerate((90, 60)):
        write_clip(folder / f"clip_{k}.mkv", noise_frames(count, seed=k), fps=25)
    return folder


def test_python_interface(model: Path, clips: Path) -> None:
    result = detect([clips], model)
    assert list(result.table.columns) == ["video", "start", "end", "label", "score"]
    assert set(result.table["video"]) == {"clip_0", "clip_1"}
    assert set(result.table["label"]) <= set(CLASSES)
    for name, part in result.table.groupby("video"):
        assert (part["start"] <= part["end"]).all()
        assert part["end"].max() <= result.videos[str(name)].duration
        assert part["score"].is_monotonic_decreasing
    best = result.table["score"].max()
    assert len(detect([clips], model, threshold=best).table) < len(result.table)
    nothing = detect([clips / "clip_1.mkv"], model, threshold=1.0)
    assert nothing.table.empty
    assert nothing.json() == {"results": {"clip_1": []}}


def test_seconds_are_those_of_a_player(model: Path, tmp_path: Path) -> None:
    """A picture that begins 2 s after the sound is one whose first frame stands still for 2 s."""
    frames = noise_frames(60)
    write_clip(tmp_path / "late.mkv", frames, fps=25, stamps=2 + np.arange(60) / 25, sound=5)
    write_clip(tmp_path / "still.mkv", [*[frames[0]] * 50, *frames], fps=25)
    result = detect([tmp_path], model)
    late, still = (result.table[result.table["video"] == name] for name in ("late", "still"))
    assert result.videos["late"].message == ""
    assert result.videos["late"].duration == pytest.approx(4.4)
    columns = ["start", "end", "label", "score"]
    pd.testing.assert_frame_equal(late[columns].reset_index(drop=True), still[columns].reset_index(drop=True))


def test_the_command(model: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.mp4").touch()
    truth = {"segment": [0.5, 1.5], "label": "run"}
    database = {"clip_0": {"subset": "test", "duration": 3.6, "annotations": [truth]}}
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    args = ["detect", str(clips), str(tmp_path / "empty.mp4"), "--model", str(model), "--threshold", "0"]
    csv, picture = tmp_path / "found.csv", tmp_path / "found.png"
    more = [
        "--json",
        "--csv",
        str(csv),
        "--picture",
        str(picture),
        "--ground-truth",
        str(tmp_path / "gt.json"),
    ]
    assert main([*args, *more]) == 2
    captured = capsys.readouterr()
    assert "empty.mp4: empty file, 0 bytes" in captured.err
    assert captured.err.splitlines()[-1].endswith("1 of 3 videos could not be used")
    results = json.loads(captured.out)["results"]
    assert list(results) == ["clip_0", "clip_1"]
    assert set(results["clip_0"][0]) == {"segment", "label", "score"}
    (tmp_path / "found.json").write_text(captured.out)
    as_json, as_csv = (read_detections(tmp_path / f"found.{kind}") for kind in ("json", "csv"))
    order = ["video", "score", "start", "end", "label"]
    pd.testing.assert_frame_equal(*(t.sort_values(order, ignore_index=True) for t in (as_json, as_csv)))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*args[:1], str(clips), *args[3:]]) == 0
    shown = capsys.readouterr().out
    assert "clip_1" in shown
    assert "[bold]throw" in shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--picture", "a.gif"], "--picture: got 'a.gif'"),
        (["--ground-truth", "gt.json"], "--ground-truth: is shown only in a figure"),
        (["--csv", "nowhere/a.csv"], "--csv nowhere/a.csv: no such folder"),
        (["--threshold", "2"], "--threshold"),
    ],
)
def test_invalid_flags(
    args: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", "v.mp4", "--model", str(model), *args]) == 2
    assert message in capsys.readouterr().err


def test_models_without_extraction_settings_are_rejected(tmp_path: Path) -> None:
    spec = detector_spec(get_model(NAME), dataset(tmp_path, max_length=64, size="small"), 3)
    card = ModelCard(name="i3d", program="actionformer", detector=spec)
    save_model(get_model(NAME).build(spec), tmp_path / "i3d.safetensors", card)
    with pytest.raises(InputError, match=r"has no extraction settings for its features \(actionformer\)"):
        detect([tmp_path / "v.mp4"], tmp_path / "i3d.safetensors")


def test_picture_shows_the_best_labels_and_all_ground_truth() -> None:
    rows = [(k, k + 1.0, f"label {k}", 0.9 - 0.05 * k) for k in range(12)]
    detections = pd.DataFrame(rows, columns=["start", "end", "label", "score"])
    truth = pd.DataFrame([(1.0, 2.0, "label 11"), (2.0, 3.0, "missed")], columns=["start", "end", "label"])
    pictures = [np.zeros((8, 12, 3), np.uint8)] * 3
    without = Panel("v", 20.0, pictures, detections)
    assert without.labels() == [f"label {k}" for k in range(8)]
    beside = Panel("v", 20.0, pictures, detections, truth)
    assert beside.labels() == [*(f"label {k}" for k in range(6)), "label 11", "missed"]
    empty = Panel("nothing", 5.0, [], detections[:0])
    assert timeline([without, beside, empty], ".svg").startswith(b"<?xml")
