"""An original checkpoint as a teacher: imported, tested, taught from, profiled; never trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from original_files import actionformer_weights, write_checkpoint, write_configuration
from tiny import STUDY, study_words, write_dataset

from tal_bench.cli import main
from tal_bench.evaluation.files import read_detections
from tal_bench.models.checkpoint import load_model, weights_hash
from tal_bench.results.folder import StudyFolder
from tal_bench.tracking.dataframe import load_runs

ARGUMENTS = {
    "input_dim": 14,
    "num_classes": 3,
    "max_seq_len": 64,
    "backbone_arch": [2, 1, 4],
    "regression_range": [[0, 4], [4, 8], [8, 16], [16, 32], [32, 10000]],
    "n_mha_win_size": 9,
    "embd_dim": 16,
    "fpn_dim": 16,
    "head_dim": 16,
    "test_cfg": {"min_score": 0.001, "max_seg_num": 50},
}


def call(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a dataset, a checkpoint and its configuration."""
    write_dataset(tmp_path / "tiny")
    torch.manual_seed(0)
    write_checkpoint(tmp_path / "epoch_035.pth.tar", actionformer_weights(14, 3))
    write_configuration(tmp_path / "thumos.yaml", ARGUMENTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "off")
    return tmp_path


def test_from_the_original_file_to_a_row_of_the_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = here / "tiny" / "dataset.yaml"
    words = ["checkpoint", "import", "epoch_035.pth.tar", "--as", "actionformer", "--config", "thumos.yaml"]
    assert call(*words, "--dataset", data) == 0
    file = Path("checkpoints") / "actionformer-epoch_035.safetensors"
    net, card = load_model(file)
    assert card.classes == ("jump", "run", "throw")
    capsys.readouterr()

    assert call("checkpoint", "test", file, "--dataset", data, "--device", "cpu") == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("map_avg") for line in shown)
    assert len(read_detections(Path(shown[-1].removeprefix("detections ")))) > 0

    assert call("profile", file, "--frames", 64, "--device", "cpu", "--json") == 0
    (cost,) = json.loads(capsys.readouterr().out)
    assert cost["name"] == "actionformer-epoch_035"

    words = study_words(data, "--teacher", str(file), "--jobs", "1")
    assert call(*words) == 2, "the small size whitens features, the original program does not"
    assert "detector: {whiten: null}" in capsys.readouterr().err
    dataset = yaml.safe_load(data.read_text())
    dataset["detector"] = {**dataset.get("detector", {}), "whiten": None}
    data.write_text(yaml.safe_dump(dataset))
    assert call(*words) == 0
    shown = capsys.readouterr().out
    record = StudyFolder(STUDY).read_study()
    (row,) = [row for row in record.rows if "imported" in row.name]
    assert row.name == f"actionformer-epoch_035-imported-{weights_hash(net.state_dict())[:6]}"
    assert "imported" in shown
    assert "actionformer" not in [row.name for row in record.rows]
    (final,) = row.finals
    result = StudyFolder(STUDY).read_run(final)
    assert result is not None
    assert result.spec.weights == weights_hash(net.state_dict())
    assert result.history == ()
    kept, _ = load_model(StudyFolder(STUDY).run_file(final, ".safetensors"))
    assert weights_hash(kept.state_dict()) == weights_hash(net.state_dict())
    students = [r.spec for r in StudyFolder(STUDY).runs() if r.spec.distill]
    assert all(spec.distill and spec.distill.teachers["modal"].run == final for spec in students)
    assert (load_runs(STUDY)["status"] == "finished").all()


def test_what_is_wrong_is_said_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = here / "tiny" / "dataset.yaml"
    torch.manual_seed(1)
    for name, state in (
        ("narrow", actionformer_weights(10, 3)),
        ("many", actionformer_weights(14, 4)),
        ("deep", actionformer_weights(14, 3, levels=6)),
    ):
        write_checkpoint(here / f"{name}.pth.tar", state)
        assert call("checkpoint", "import", f"{name}.pth.tar", "--as", "actionformer", "--name", name) == 0
    capsys.readouterr()
    for teacher, expected in (
        ("checkpoints/narrow.safetensors", "it reads rgb 5 + flow 5, dataset 'tiny' has rgb 8 + flow 6"),
        ("checkpoints/many.safetensors", "it has 4 classes, dataset 'tiny' has 3"),
        ("checkpoints/deep.safetensors", "5 levels, its teacher"),
        ("checkpoints", "3 models found"),
        ("epoch_035.pth.tar", "tal-bench checkpoint import epoch_035.pth.tar --as PROGRAM"),
        ("nowhere.safetensors", "no such weights"),
        ("tiny/dataset.yaml", "not a .safetensors file"),
    ):
        assert call(*study_words(data, "--teacher", teacher)) == 2
        shown = capsys.readouterr().err
        assert expected in shown.splitlines()[-1]
        assert not Path("reports").exists()
