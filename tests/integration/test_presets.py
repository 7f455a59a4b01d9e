"""A study on a dataset in another layout, with small networks on a few videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from layouts import write_layout

from tal_bench.cli import main
from tal_bench.results.folder import StudyFolder
from tal_bench.tracking.dataframe import load_runs

CHANGES = {
    "name": "anet",
    "size": "small",
    "max_length": 64,
    "resize": 64,
    "missing": "skip",
    "recall": [1],
}


def test_one_class_with_external_scores_and_nothing_privileged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ActivityNet's ways, a video without features, and `all` where no modality is privileged."""
    file = write_layout("activitynet-1.3", tmp_path, videos=4, changes=CHANGES)
    (tmp_path / "tsp_features" / "v_train_001.npy").unlink()
    monkeypatch.chdir(tmp_path)
    command = ["ablate", "--dataset", str(file), "--variant", "all", "--budget", "smoke", "--device", "cpu"]
    assert main([*command, "--jobs", "1", "--tracking-uri", "off"]) == 0
    told = capsys.readouterr().err
    assert "no privileged modality in 'anet': student conv-dw-primary, rows none, none-matched, self" in told
    assert "1 video left out, no rgb features: train_001" in told
    study = StudyFolder(tmp_path / "reports" / "two-by-two-anet-smoke")
    record = study.read_study()
    assert [row.name for row in record.rows] == [
        *("actionformer-primary", "none", "none-matched", "self", "cross-structure")
    ]
    assert record.classes == ("climb_up", "Long Jump", "wave")
    assert record.evaluation.endswith("on validation, classes by external scores (best 2)")
    assert record.skipped == {"train_001": "no rgb features"}
    runs = list(study.runs())
    assert all(r.status == "finished" and r.skipped == ("train_001",) for r in runs)
    for final in (r for r in runs if r.spec.phase == "final"):
        assert final.spec.detector.classes == 1
        assert final.spec.decode.class_agnostic
        assert set(final.per_class) == set(record.classes)
        assert (final.evaluation, final.videos) == (record.evaluation, 4)
        detections = json.loads(study.run_file(final.hash, ".detections.json").read_text())["results"]
        for video, found in detections.items():
            assert len({one["label"] for one in found}) == 2, "the two best classes of its video"
            assert video.startswith("test")
    tuned = next(r for r in runs if r.spec.phase == "tuning")
    assert tuned.evaluation.endswith("validation part of the training videos, without classes")
    table = load_runs(study.path)
    assert table.loc[table["split"] == "test", ["recall_1x_0.50", "recall_1x_avg"]].notna().all(axis=None)
