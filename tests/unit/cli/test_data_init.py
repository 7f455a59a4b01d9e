"""`tal-bench data init` writes dataset files that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from layouts import EXTERNAL_DATASETS

from tal_bench.cli import main
from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.config.dataset import Overrides
from tal_bench.data.registry import datasets, read_dataset_file


def active_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_the_file_is_short_and_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "init"]) == 0
    text = Path("dataset.yaml").read_text(encoding="utf-8")
    assert 8 <= len(active_lines(text)) <= 12
    spec = read_dataset_file(tmp_path / "dataset.yaml")
    assert spec.channels("primary") == {"rgb": 1024}
    assert spec.annotations == tmp_path / "annotations.json"


def test_every_commented_line_is_a_setting(tmp_path: Path) -> None:
    """Each line works when it is uncommented, and together they show every field."""
    file = tmp_path / "x.yaml"
    assert main(["data", "init", str(file)]) == 0
    lines = file.read_text(encoding="utf-8").splitlines()
    options = [line.removeprefix("# ") for line in lines if line.startswith("# ") and ": " in line]
    options = [line for line in options if line.split(":")[0] in DatasetSpec.model_fields]
    for option in options:
        fold = "folds: 5\n" if option.startswith("fold:") else ""
        file.write_text("\n".join([*active_lines("\n".join(lines)), fold + option]), encoding="utf-8")
        assert read_dataset_file(file)
    shown = {option.split(":")[0] for option in options} | set(yaml.safe_load("\n".join(lines)))
    hidden = {"validation", "validation_fraction", "scores_top", "extra_tiou", "fingerprint"}
    assert set(DatasetSpec.model_fields) - hidden <= shown
    text = "\n".join(lines)
    assert all(f"{name}:" in text for name in (*ModalitySpec.model_fields, *Overrides.model_fields))


@pytest.mark.parametrize("name", EXTERNAL_DATASETS)
def test_a_preset_is_a_starting_point(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    assert main(["data", "init", str(file), "--preset", name]) == 0
    text = file.read_text(encoding="utf-8")
    assert all(f"#   {line}" in text for line in datasets.get(name).files)
    spec = read_dataset_file(file)
    assert spec.name == name
    assert spec.annotations.is_relative_to(tmp_path / "data")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.yaml", "--preset", "thumos"], "unknown dataset 'thumos' (did you mean 'thumos14'?)"),
        (["x.yaml", "--preset", "sprites"], "'sprites' is made by the package"),
        (["x.json"], "x.json: '.json' is not the suffix of a dataset file (give a .yaml file)"),
        (["there.yaml"], "there.yaml: already exists"),
        (["no/where.yaml"], "no/where.yaml: cannot be written"),
    ],
)
def test_errors(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.yaml").write_text("name: mine\n")
    assert main(["data", "init", *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
    assert Path("there.yaml").read_text() == "name: mine\n"
