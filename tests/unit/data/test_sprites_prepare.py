"""Tests of the preparation: layout, resuming, and independence of the number of jobs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip

from tal_bench.config.extraction import FILE as EXTRACTION_FILE
from tal_bench.config.extraction import find_extraction, read_extraction
from tal_bench.data.datasets.sprites import extract
from tal_bench.data.datasets.sprites import prepare as module
from tal_bench.data.datasets.sprites.prepare import make_annotations, prepare
from tal_bench.data.datasets.sprites.preview import write_videos
from tal_bench.data.datasets.sprites.render import render
from tal_bench.data.datasets.sprites.scene import plan_scene, scene_rng
from tal_bench.data.datasets.sprites.settings import LABELS, SpritesSettings
from tal_bench.data.datasets.sprites.statistics import ridge_r2
from tal_bench.data.registry import datasets
from tal_bench.errors import DataError, InputError
from tal_bench.extraction import shipped_networks as networks
from tal_bench.extraction.pca import fit_pca
from tal_bench.extraction.video_files import video_features

TINY = SpritesSettings(train_videos=3, test_videos=1, min_seconds=15, max_seconds=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("cache"), jobs=1, settings=TINY)


def features(folder: Path) -> dict[str, np.ndarray]:
    return {str(p.relative_to(folder)): np.load(p) for p in sorted(folder.glob("*/*.npy"))}


def test_layout(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    database = json.loads((folder / "annotations.json").read_text())["database"]
    assert (manifest["stride"], manifest["window"], manifest["fps"]) == (2, 1, 8.0)
    assert manifest["classes"] == list(LABELS)
    assert [entry["subset"] for entry in database.values()] == ["training"] * 3 + ["test"]
    for video, entry in database.items():
        rgb, flow = (np.load(folder / stream / f"{video}.npy") for stream in ("rgb", "flow"))
        assert rgb.shape == (round(entry["duration"] * 4), manifest["channels"]["rgb"])
        assert flow.shape == (len(rgb), manifest["channels"]["flow"])
        assert rgb.dtype == flow.dtype == np.float32
        assert np.isfinite(rgb).all()
        assert np.isfinite(flow).all()
        for note in entry["annotations"]:
            assert note["label"] == LABELS[note["label_id"]]
            assert 0 <= note["segment"][0] < note["segment"][1] <= entry["duration"]
    assert sum(len(e["annotations"]) for e in database.values()) == sum(
        row["segments"] for row in manifest["counts"].values()
    )
    assert not [p for p in folder.parent.iterdir() if p.suffix == ".partial"]


def test_features_can_be_extracted_from_any_video(folder: Path, tmp_path: Path) -> None:
    extraction = read_extraction(folder / EXTRACTION_FILE)
    assert extraction is not None
    video = "sprites_test_0000"
    scene = plan_scene(scene_rng(TINY.test_seed, "test", 0), TINY)
    file = write_clip(tmp_path / "a.mkv", list(render(scene, TINY.size, TINY.fps)), fps=TINY.fps)
    found, footage = video_features(file, extraction)
    assert (footage.fps, footage.frames) == (TINY.fps, scene.frames)
    for stream, values in found.items():
        np.testing.assert_array_equal(values, np.load(folder / stream / f"{video}.npy"))
    spec = datasets.get("sprites").spec(folder)
    assert find_extraction(spec, ("rgb", "flow")) == extraction


def test_the_second_call_does_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_build", lambda *_: pytest.fail("built again"))
    assert prepare(folder.parent, jobs=1, settings=TINY) == folder


def test_jobs_do_not_change_the_features(folder: Path, tmp_path: Path) -> None:
    other = features(prepare(tmp_path, jobs=2, settings=TINY))
    mine = features(folder)
    assert mine.keys() == other.keys()
    for name, values in mine.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


def test_an_interrupted_preparation_resumes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, jobs=1, settings=TINY, progress=stop)
    assert not list(tmp_path.glob("sprites-*"))
    worked: list[str] = []
    original = extract.embed_video

    def count(raw: Path, video: str, settings: SpritesSettings) -> dict[str, float]:
        worked.append(video)
        return original(raw, video, settings)

    monkeypatch.setattr(extract, "embed_video", count)
    steps: list[tuple[int, int]] = []
    resumed = prepare(tmp_path, jobs=1, settings=TINY, progress=lambda *step: steps.append(step))
    assert len(worked) == 2
    assert steps == [(3, 4), (4, 4)]
    for name, values in features(folder).items():
        np.testing.assert_array_equal(values, np.load(resumed / name))


def test_concurrent_preparation_builds_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    original = module._build
    monkeypatch.setattr(module, "_build", lambda *given: (built.append(1), original(*given)))
    small = SpritesSettings(train_videos=2, test_videos=1, min_seconds=10, max_seconds=10)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepare(tmp_path, jobs=1, settings=small)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert found[0] == found[1]


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAL_BENCH_CACHE", str(tmp_path))
    assert module.default_cache_dir() == tmp_path


def test_bad_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        prepare(tmp_path, jobs=0)
    monkeypatch.setattr(networks, "WEIGHTS", tmp_path)
    with pytest.raises(DataError, match="pretrained network is missing"):
        prepare(tmp_path, jobs=1, settings=TINY)


def test_standard_dataset_has_the_stated_size() -> None:
    counted = {"training": [0, 0], "test": [0, 0]}
    settings = SpritesSettings()
    for entry in make_annotations(settings)["database"].values():
        counted[entry["subset"]][0] += 1
        counted[entry["subset"]][1] += len(entry["annotations"])
        assert entry["duration"] * 4 <= 480
    assert counted["training"][0] == 90
    assert counted["test"][0] == 60
    assert 800 <= counted["training"][1] <= 950
    assert 520 <= counted["test"][1] <= 640
    assert len(extract.scenes(settings)) == 150


def test_pca_whitening_power() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4000, 6)) * [9, 5, 3, 1, 0.5, 0.1] + 7).astype(np.float32)
    white = fit_pca([x[:1000], x[1000:]], 3, 1.0)(x)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=2e-2)
    kept = fit_pca([x], 3, 0.0)(x).std(0)
    np.testing.assert_allclose(kept / kept[0], [1, 5 / 9, 3 / 9], atol=2e-2)
    balanced = fit_pca([x], 2, 0.0, (1, 5))(x)
    lead = np.corrcoef(balanced.T, x[:, :2].T)[:2, 2:]
    np.testing.assert_allclose(np.abs(lead), np.eye(2), atol=0.25)
    np.testing.assert_allclose(balanced.var(0), [1.0, 1.0], atol=0.3)
    with pytest.raises(InputError, match="7 components of 6"):
        fit_pca([x], 7, 0.5)


def test_statistics_of_extreme_cases() -> None:
    rng = np.random.default_rng(0)
    x, new = (rng.standard_normal((600, 5)).astype(np.float32) for _ in range(2))
    weight = rng.standard_normal((5, 3)).astype(np.float32)
    assert ridge_r2(x, x @ weight, new, new @ weight) > 0.999
    assert (
        ridge_r2(x, rng.standard_normal((600, 3)).astype(np.float32), new, new[:, :3] * 0 + x[:, :3]) < 0.05
    )


def test_preview(tmp_path: Path) -> None:
    files = write_videos(tmp_path, 1, TINY)
    assert [f.name for f in files] == ["sprites_training_0000.mp4", "contact.png", "timeline.png"]
    assert all(f.stat().st_size > 1000 for f in files)
