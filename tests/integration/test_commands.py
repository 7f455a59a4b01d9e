"""Commands end to end on small inputs, without training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_study import write_fake_study

from tal_bench.cli import main


def test_profile_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["actionformer-small", "conv-dw-hallucinated-small"]
    words = ["--frames", "64", "--channels", "rgb=16,flow=8", "--classes", "5", "--device", "cpu", "--json"]
    assert main(["profile", *names, *words]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in records] == names
    for r in records:
        assert set(r) == {
            "name", "params", "gmacs", "latency_ms", "peak_memory_mb", "threads", "device", "precision",
        }  # fmt: skip
        assert set(r["latency_ms"]) == {"median", "iqr"}
        assert r["params"] > 0
        assert r["gmacs"] > 0
        assert r["precision"] == "fp32"


def test_profile_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["profile", "conv-primary-small", "--frames", "64", "--channels", "rgb=16", "--device", "cpu"])
        == 0
    )
    assert "conv-primary-small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["conv", "--frames", "100"], "--frames: got 100 (give a multiple of 32, for instance 128)"),
        (["conv-primay"], "unknown model 'conv-primay' (did you mean 'conv-primary'?)"),
        (["conv-hallucinated", "--channels", "rgb=16"], "conv-hallucinated"),
    ],
)
def test_profile_of_what_cannot_be(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *words, "--device", "cpu"]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["datasets", "teachers", "students", "variants", "terms", "corruptions"])
def test_list(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "datasets": ["sprites", "thumos14"],
        "teachers": ["actionformer", "conv-privileged"],
        "students": ["conv-dw-hallucinated", "actionformer-primary"],
        "variants": ["none", "self", "cross-modal", "cross-structure", "both-single", "both", "c2ms-both"],
        "terms": ["hallucination", "stem", "offsets", "logits", "logits-binary"],
        "corruptions": ["black-frame", "packet-loss", "gaussian-noise", "dropped-steps"],
    }
    assert main(["list", kind]) == 0
    assert set(expected[kind]) <= set(capsys.readouterr().out.split())


def test_report_draws_a_study_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake_study(tmp_path / "study")
    assert main(["report", str(tmp_path / "study")]) == 0
    assert "both-single" in capsys.readouterr().out
    assert (tmp_path / "study" / "table.md").is_file()


def test_data_check_says_what_is_in_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    annotations = [{"segment": [1, 4], "label": "run"}]
    database = {
        name: {"subset": subset, "duration": 10, "fps": 8, "annotations": annotations}
        for name, subset in zip("acdeb", [*["training"] * 4, "test"], strict=True)
    }
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    for name in database:
        np.save(tmp_path / f"{name}.npy", np.ones((40, 4), dtype=np.float32) + ord(name))
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\nannotations: annotations.json\nstride: 2\nwindow: 4\n"
        "modalities: {rgb: {role: primary, folder: ., channels: 4}}\n"
    )
    assert main(["data", "check", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "5 videos, 5 feature files" in shown
    assert "segments" in shown
    assert main(["data", "check", str(file), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is True
    assert (value["videos"], value["files"]) == (5, 5)


def test_data_prepare_of_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "thumos14", "--data-root", str(tmp_path)]) == 2
    assert "--data-root" in capsys.readouterr().err


def test_data_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert "sprites" in capsys.readouterr().out
