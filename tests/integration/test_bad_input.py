"""Bad input: one line on standard error that names the file or flag, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import small_dataset

from tal_bench.cli import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; nothing is prepared or tracked elsewhere."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("TAL_BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    for name in ("TAL_BENCH_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset file that is all right."""
    folder = tmp_path / "data"
    folder.mkdir()
    spec = small_dataset(folder)
    streams = "".join(
        f"  {name}: {{role: {m.role}, folder: {name}, channels: {m.channels}}}\n"
        for name, m in spec.modalities.items()
    )
    file = folder / "small.yaml"
    file.write_text(
        f"name: small\nannotations: annotations.json\nmodalities:\n{streams}"
        f"stride: {spec.stride}\nwindow: {spec.window}\nmax_length: 64\nsize: small\n"
    )
    return file


def one_line(text: str, *words: str) -> None:
    assert text.count("\n") == 1, text
    assert text.startswith("error: "), text
    for word in words:
        assert word in text, text


def nothing_written(folder: Path) -> bool:
    return not list(folder.iterdir()) and not (folder.parent / "cache").exists()


def as_process(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tal_bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


# True processes: what a shell sees.


def test_unknown_variant(here: Path) -> None:
    result = as_process("ablate", "--variant", "cross-modl")
    assert result.returncode == 2
    assert result.stdout == ""
    one_line(result.stderr, "--variant", "'cross-modl'", "did you mean 'cross-modal'?")
    assert nothing_written(here)


def test_no_trials(here: Path) -> None:
    result = as_process("ablate", "--trials", "0")
    assert result.returncode == 2
    one_line(result.stderr, "--trials 0")
    assert nothing_written(here)


# In this process: the same entry point.


def test_unknown_dataset(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--dataset", "sprits"]) == 2
    one_line(capsys.readouterr().err, "--dataset", "'sprits'", "did you mean 'sprites'?")
    assert nothing_written(here)


def test_unknown_key_in_a_study(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nvariant: [both]\n")
    assert main(["ablate", str(file)]) == 2
    one_line(capsys.readouterr().err, str(file), "unknown key 'variant'", "did you mean 'variants'?")
    assert nothing_written(here)


def test_unknown_key_in_a_dataset(here: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset.write_text(dataset.read_text() + "strides: 3\n")
    for words in (["ablate", "--dataset", str(dataset)], ["data", "check", str(dataset)]):
        assert main(words) == 2
        one_line(capsys.readouterr().err, str(dataset), "unknown key 'strides'", "did you mean 'stride'?")
    assert nothing_written(here)


@pytest.mark.parametrize("command", [["ablate", "--tracking-uri", "off", "--dataset"], ["data", "check"]])
def test_annotations_that_are_not_json(
    command: list[str], here: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset.parent / "annotations.json").write_text("video,start,end\n")
    assert main([*command, str(dataset)]) == 2
    shown = capsys.readouterr()
    one_line(shown.err)
    assert "annotations.json" in shown.out + shown.err
    assert nothing_written(here)


@pytest.mark.parametrize("command", [["ablate", "--tracking-uri", "off", "--dataset"], ["data", "check"]])
def test_a_missing_feature_file(
    command: list[str], here: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset.parent / "flow" / "v03.npy").unlink()
    assert main([*command, str(dataset)]) == 2
    shown = capsys.readouterr()
    one_line(shown.err)
    assert "v03.npy" in shown.out + shown.err
    assert nothing_written(here)


@pytest.mark.parametrize("command", [["ablate", "--tracking-uri", "off", "--dataset"], ["data", "check"]])
def test_features_that_are_not_numbers(
    command: list[str], here: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = dataset.parent / "rgb" / "v05.npy"
    values = np.load(file)
    values[7, 2] = np.nan
    np.save(file, values)
    assert main([*command, str(dataset)]) == 2
    shown = capsys.readouterr()
    one_line(shown.err)
    assert "v05.npy" in shown.out + shown.err
    assert nothing_written(here)


def test_reports_cannot_go_into_a_file(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "reports"
    blocked.write_text("mine")
    assert main(["ablate", "--reports", str(blocked)]) == 2
    one_line(capsys.readouterr().err, f"--reports {blocked}")
    assert blocked.read_text() == "mine"
    assert nothing_written(here)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_reports_cannot_be_written(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "reports"
    blocked.mkdir(mode=0o555)
    assert main(["ablate", "--reports", str(blocked)]) == 2
    one_line(capsys.readouterr().err, f"--reports {blocked}")
    assert nothing_written(here)


def test_a_plugin_that_fails(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import math\nmath.sqrt(-1)\n")
    assert main(["ablate", "--plugin", str(file)]) == 2
    one_line(capsys.readouterr().err, f"{file}:2", "ValueError")
    assert nothing_written(here)


def test_a_report_of_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(here)]) == 2
    one_line(capsys.readouterr().err, str(here), "no study.json there")
    assert nothing_written(here)


def test_detections_without_a_score(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    entry = '{"subset": "test", "annotations": [{"segment": [0, 1], "label": "run"}]}'
    truth.write_text(f'{{"database": {{"a": {entry}}}}}')
    found.write_text('{"results": {"a": [{"segment": [0, 1], "label": "run"}]}}')
    assert main(["evaluate", "--ground-truth", str(truth), "--detections", str(found)]) == 2
    one_line(capsys.readouterr().err, str(found), "score")
