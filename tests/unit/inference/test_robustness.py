"""Robustness of trained models: statistics, tables, and the command on small data."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import noise_frames, write_clip
from test_backbone_weights import NET

from tal_bench.cli import main
from tal_bench.config import DatasetSpec, ModalitySpec
from tal_bench.config.extraction import find_extraction
from tal_bench.data.registry import read_dataset_file
from tal_bench.data.splits import with_fingerprint
from tal_bench.errors import InputError
from tal_bench.evaluation.robustness import ALL, Line, Robustness, RunScores, relative_drop, robustness
from tal_bench.models.checkpoint import ModelCard, save_model
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.report.robustness.tables import findings, markdown, summary
from tal_bench.report.robustness.write import write_robustness

VERSIONS = [("fog", 1, 0.1), ("fog", 2, 0.1), ("rain", 1, 1.0)]
MODEL = "conv-primary-small"
DRAWS = 40


def scores(row: str, seed: int, clean: float, *under: float, noise: float = 0.02) -> RunScores:
    random = np.random.default_rng([seed, len(row)])
    spread = random.normal(0.0, noise, DRAWS)

    def drawn(value: float) -> np.ndarray:
        return np.concatenate([[value], value + spread])

    return RunScores(row, seed, drawn(clean), dict(zip(VERSIONS, map(drawn, under), strict=True)))


def lines(against: str | None = "none", videos: int = 20) -> list[Line]:
    runs = [scores("none", s, 0.40 + 0.01 * s, 0.30, 0.20, 0.40) for s in range(3)]
    runs += [scores("both", s, 0.50 + 0.01 * s, 0.45, 0.35, 0.50) for s in range(3)]
    return robustness(runs, against=against, videos=videos)


def line(row: str, corruption: str, severity: int | None = None) -> Line:
    return next(x for x in lines() if (x.row, x.corruption, x.severity) == (row, corruption, severity))


def test_means_are_over_versions_and_then_over_corruptions() -> None:
    fog, rain, every = (line("none", name) for name in ("fog", "rain", ALL))
    assert fog.map == pytest.approx(25.0)
    assert (fog.versions, rain.versions, every.versions, every.seeds) == (2, 1, 3, 3)
    assert every.map == pytest.approx((25.0 + 40.0) / 2), "not (30 + 20 + 40) / 3"
    drops = [100 * (m - 0.25) / m for m in (0.40, 0.41, 0.42)]
    assert fog.drop == pytest.approx(np.mean(drops))
    assert fog.drop_sd == pytest.approx(np.std(drops, ddof=1))
    assert fog.clean == pytest.approx(41.0)
    assert line("none", "fog", 2).map == pytest.approx(20.0)


def test_differences_are_paired() -> None:
    fog = line("both", "fog")
    assert fog.drop_difference is not None and fog.map_difference is not None
    assert fog.drop_difference.estimate == pytest.approx(fog.drop - line("none", "fog").drop)
    assert fog.drop_difference.estimate < 0, "both loses less"
    assert fog.map_difference.estimate == pytest.approx(15.0)
    assert fog.map_difference.low < 15.0 < fog.map_difference.high
    assert (fog.map_difference.seeds, fog.map_difference.videos) == (3, 20)
    assert line("none", "fog").drop_difference is None


def test_rows_without_common_seeds() -> None:
    runs = [scores("none", 0, 0.4, 0.3, 0.2, 0.4), scores("both", 1, 0.5, 0.4, 0.3, 0.5)]
    assert all(x.map_difference is None for x in robustness(runs, against="none", videos=9))
    assert all(x.map_difference is None for x in lines(videos=1)), "one video has no spread"
    assert np.isnan(robustness(runs, against=None, videos=9)[0].map_sd), "one seed has no spread"
    with pytest.raises(InputError, match="no row 'self'"):
        lines(against="self")
    other = RunScores("both", 0, runs[1].clean, {("fog", 1, 0.1): runs[1].clean})
    with pytest.raises(InputError, match="different versions"):
        robustness([runs[0], other], against=None, videos=9)


def test_relative_drop_of_zero_map_is_nan() -> None:
    assert np.isnan(relative_drop(np.array([0.0]), np.array([0.0])))[0]
    assert relative_drop(np.array([0.5]), np.array([0.4]))[0] == pytest.approx(0.2)
    (first, *_) = robustness([scores("none", 0, 0.0, 0.0, 0.0, 0.0, noise=0)], against=None, videos=9)
    assert np.isnan(first.drop)


@pytest.fixture
def outcome() -> Robustness:
    return Robustness(
        title="fake: made",
        level="features",
        kinds={"none": "student", "both": "student"},
        against="none",
        lines=lines(),
        runs=[],
        provenance=("Command: tal-bench robustness", "Commit: 0123abc"),
        notes=["As it is."],
    )


def test_report_files(outcome: Robustness, tmp_path: Path) -> None:
    files = write_robustness(outcome, tmp_path)
    assert {f.name for f in files} == {f"robustness{end}" for end in (".md", ".csv", ".json", ".png", ".svg")}
    again = {f.name: f.read_bytes() for f in write_robustness(outcome, tmp_path)}
    assert {f.name: f.read_bytes() for f in files} == again
    rows = list(csv.DictReader(io.StringIO((tmp_path / "robustness.csv").read_text())))
    assert len(rows) == 2 * (1 + 2 + 3)
    assert {row["level"] for row in rows} == {"features"}
    text = markdown(outcome)
    assert "feature level" in text and "0123abc" in text and "| fog | 2 | 10 % | 20.0 | 35.0 |" in text
    assert json.loads((tmp_path / "robustness.json").read_text()) == json.loads(json.dumps(summary(outcome)))
    assert "Robustness (feature level)" in (tmp_path / "robustness.svg").read_text()


def test_rows_with_fewer_seeds_are_named(outcome: Robustness) -> None:
    assert outcome.seeds_text == "3 seeds"
    runs = [scores("none", s, 0.4, 0.3, 0.2, 0.4) for s in range(3)] + [scores("both", 0, 0.5, 0.4, 0.3, 0.5)]
    fewer = replace(outcome, lines=robustness(runs, against="none", videos=20))
    assert fewer.seeds_text == "1 to 3 seeds"
    assert "standard deviation over 1 to 3 seeds" in markdown(fewer)


def test_findings_have_a_sentence_per_row(outcome: Robustness) -> None:
    (sentence,) = findings(outcome)
    assert sentence.startswith("`both` against `none`, relative drop: −")
    assert sentence.endswith("loses less.")


def save(folder: Path, spec: DatasetSpec, name: str) -> Path:
    """Save an untrained model for a dataset, with the card that training writes."""
    detector = detector_spec(get_model(MODEL), spec, 2)
    torch.manual_seed(0)
    card = ModelCard(
        name=name,
        model=MODEL,
        detector=detector,
        classes=("jump", "run"),
        dataset=spec,
        extraction=find_extraction(spec, detector.reads),
    )
    file = folder / f"{name}.safetensors"
    save_model(get_model(MODEL).build(detector), file, card)
    return file


@pytest.fixture(scope="module")
def study_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips, their extracted features, annotations, and a model."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "videos").mkdir()
    database = {}
    for k in range(4):
        write_clip(folder / "videos" / f"clip_{k}.mkv", noise_frames(90, seed=k), fps=25)
        actions = [((0.4, 1.6), "jump"), ((2.0, 3.2), "run")]
        database[f"clip_{k}"] = {
            "subset": "training" if k < 2 else "test",
            "duration": 3.6,
            "fps": 25.0,
            "annotations": [{"segment": list(at), "label": label} for at, label in actions],
        }
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    args = ["features", "extract", str(folder / "videos"), "--out", str(folder / "features"), "--jobs", "1"]
    assert main([*args, "--backbone", NET, "--weights", "random", "--size", "32"]) == 0
    spec = with_fingerprint(
        DatasetSpec(
            name="clips",
            annotations=folder / "annotations.json",
            modalities={
                name: ModalitySpec(role=role, folder=folder / "features" / name, channels=96)  # type: ignore[arg-type]
                for name, role in (("rgb", "primary"), ("flow", "privileged"))
            },
            stride=4,
            window=6,
            fps=25.0,
            max_length=64,
            size="small",
            tiou=(0.3, 0.5),
        )
    )
    save(folder, spec, "net")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


ONE_VERSION = ["--jobs", "1", "--severity", "3", "--share", "0.1", "--json"]


def test_pixels_are_corrupted_if_videos_are_available(
    study_data: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["robustness", str(study_data / "net.safetensors"), *ONE_VERSION, "--corruption", "black-frame"]
    assert main([*args, "--corruption", "brightness", "--out", str(out)]) == 0
    captured = json.loads(capsys.readouterr().out)
    assert captured["level"] == "pixels"
    (run,) = captured["runs"]
    assert [v["corruption"] for v in run["versions"]] == ["black-frame", "brightness"]
    assert (out / "robustness.png").read_bytes().startswith(b"\x89PNG")
    made = {f: f.stat().st_mtime_ns for f in cache.rglob("*") if f.is_file()}
    assert len([f for f in made if f.suffix == ".npz"]) == 2 * 2, "test videos, the stream that is read"
    assert main([*args, "--corruption", "brightness"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == captured["runs"]
    assert {f: f.stat().st_mtime_ns for f in cache.rglob("*") if f.is_file()} == made, "nothing is done again"


def test_two_models_are_two_rows(study_data: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(study_data / "net.safetensors", study_data / "other.safetensors")
    models = [str(study_data / f"{name}.safetensors") for name in ("net", "other")]
    assert main(["robustness", *models, *ONE_VERSION, "--corruption", "occlusion"]) == 0
    captured = json.loads(capsys.readouterr().out)
    assert [run["row"] for run in captured["runs"]] == ["net net", "net other"]
    assert captured["against"] == "net net"
    assert captured["findings"] == [
        "net other against `net net`, relative drop: 0.0 [0.0, 0.0] points, no clear difference."
    ]


def test_features_are_corrupted_without_videos(
    dataset_file: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = with_fingerprint(read_dataset_file(dataset_file))
    file = save(tmp_path, spec, "plain")
    assert main(["robustness", str(file), "--jobs", "1", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "feature level" in shown
    assert "feature level" in (tmp_path / "out" / "robustness.md").read_text()
    assert not list(cache.rglob("*.npz"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--corruption", "fog"], "unknown corruption 'fog'"),
        (
            ["--corruption", "dropped-steps", "--level", "pixels"],
            "--corruption: 'dropped-steps' changes features",
        ),
        (["--severity", "7"], "--severity: got 7 (give 1 to 3)"),
        (["--share", "0"], "--share: got 0"),
        (["--row", "none"], "--row: only studies have rows"),
        (["--against", "none"], "--against: no row 'none' (choose from net)"),
        (["--dataset", "sprits"], "unknown dataset 'sprits'"),
    ],
)
def test_invalid_flags(
    args: list[str], message: str, study_data: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robustness", str(study_data / "net.safetensors"), "--jobs", "1", *args]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err, captured.err
    assert not captured.out and not cache.exists()


def test_changed_or_missing_data(
    study_data: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study_data, copy)
    args = ["robustness", str(study_data / "net.safetensors"), *ONE_VERSION]
    (study_data / "videos").rename(study_data / "away")
    try:
        assert main(args) == 2
        assert "the video file is missing, and 1 others" in capsys.readouterr().err
    finally:
        (study_data / "away").rename(study_data / "videos")
    text = (study_data / "annotations.json").read_text()
    (study_data / "annotations.json").write_text(text.replace("1.6", "1.7"))
    try:
        assert main(args) == 2
        assert "has changed: fingerprint" in capsys.readouterr().err
    finally:
        (study_data / "annotations.json").write_text(text)
    assert not cache.exists()
