from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import FPS, STRIDE, WINDOW, small_dataset
from hypothesis import given
from hypothesis import strategies as st

from tal_bench.data.dataset import open_dataset
from tal_bench.data.feature_grid import to_grid, to_seconds
from tal_bench.data.selection import validation_ids
from tal_bench.data.splits import fingerprint, with_fingerprint
from tal_bench.errors import DataError, InputError

times = st.lists(st.floats(0, 1e4), min_size=1, max_size=5)


@given(times, st.floats(1, 120), st.floats(0.5, 64), st.floats(0, 128))
def test_grid_and_seconds_are_inverse(seconds: list[float], fps: float, stride: float, window: float) -> None:
    back = to_seconds(to_grid(np.array(seconds), fps, stride, window), fps, stride, window)
    np.testing.assert_allclose(back, seconds, rtol=1e-9, atol=1e-8)


def test_the_grid_is_that_of_thumos() -> None:
    # Step 0 of stride 4, window 16 at 30 fps is centred on frame 8.
    assert to_grid(np.array([8 / 30, 12 / 30]), 30, 4, 16).tolist() == pytest.approx([0, 1])


def test_video_has_the_content_of_the_files(tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset(tmp_path), ["rgb", "flow"])
    assert dataset.classes == ("jump", "run")
    video = dataset.videos("train+validation")[3]
    assert video.meta.id == "v03"
    assert (video.meta.fps, video.meta.stride, video.meta.window) == (FPS, STRIDE, WINDOW)
    assert video.features["rgb"].shape == (video.steps, 6)
    assert video.features["flow"][4, 1] == 4 + 1 + 3 / 4 + 100
    assert video.segments.dtype == np.float32
    assert video.segments[0].tolist() == [1.0 * FPS / STRIDE - 1, 3.0 * FPS / STRIDE - 1]
    assert video.labels.tolist() == [0, 1]
    assert video.segments_seconds[0].tolist() == [1.0, 3.0]


def test_only_requested_streams_are_read(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    shutil.rmtree(tmp_path / "flow")
    dataset = open_dataset(spec, ["rgb"])
    assert set(dataset.videos("test")[0].features) == {"rgb"}
    with pytest.raises(DataError, match=r"missing feature file, and 12 others of 13 videos"):
        open_dataset(spec, ["rgb", "flow"])
    with pytest.raises(InputError, match=r"no modality 'rbg' \(did you mean 'rgb'\?\)"):
        open_dataset(spec, ["rbg"])


def test_parts_divide_the_training_videos(tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset(tmp_path), ["rgb"])
    train, validation = dataset.ids("train"), dataset.ids("validation")
    assert len(train) == 6
    assert len(validation) == 3
    assert sorted(train + validation) == dataset.ids("train+validation") == [f"v{i:02d}" for i in range(9)]
    assert dataset.ids("test") == ["v09", "v10", "v11", "v12"]
    assert [v.meta.id for v in dataset.videos("validation")] == validation
    with pytest.raises(InputError, match="unknown part 'tests'"):
        dataset.videos("tests")  # type: ignore[arg-type]


def test_limit_cuts_both_splits(tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset(tmp_path), ["rgb"], limit=3)
    assert dataset.ids("train+validation") == ["v00", "v01", "v02"]
    assert len(dataset.ids("validation")) == 1
    assert dataset.ids("test") == ["v09", "v10", "v11"]


def test_a_video_must_not_be_in_both_splits(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path).model_copy(update={"test": ("training", "test")})
    with pytest.raises(DataError, match="9 videos are in both training and test, first 'v00'"):
        open_dataset(spec, ["rgb"])


@pytest.mark.parametrize("half", [False, True])
def test_mapped_files_equal_memory(tmp_path: Path, half: bool) -> None:
    spec = small_dataset(tmp_path, half=half)
    held = open_dataset(spec, ["rgb", "flow"])
    mapped = open_dataset(spec, ["rgb", "flow"], memory_limit=0)
    assert held.in_memory
    assert not mapped.in_memory
    for one, other in zip(held.videos("test"), mapped.videos("test"), strict=True):
        assert one.steps == other.steps
        assert set(other.features) == {"rgb", "flow"}
        np.testing.assert_array_equal(one.features["rgb"], other.features["rgb"])
        crop = other.crop("flow", 3, 9)
        assert crop.dtype == np.float32
        np.testing.assert_array_equal(one.crop("flow", 3, 9), crop)


def test_memory_limit_applies_to_float32_size(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path, half=True)
    steps = sum(v.steps for p in ("train+validation", "test") for v in open_dataset(spec, ["rgb"]).videos(p))
    assert open_dataset(spec, ["rgb"], memory_limit=int(steps * 6 * 4 * 1.2)).in_memory
    assert not open_dataset(spec, ["rgb"], memory_limit=int(steps * 6 * 4 * 0.8)).in_memory


def test_nan_in_a_mapped_file_is_reported_when_read(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    path = tmp_path / "rgb" / "v09.npy"
    values = np.load(path)
    values[7, 2] = np.nan
    np.save(path, values)
    with pytest.raises(DataError, match=r"v09.npy: 1 NaN"):
        open_dataset(spec, ["rgb"]).videos("test")
    video = open_dataset(spec, ["rgb"], memory_limit=0).videos("test")[0]
    video.crop("rgb", 8, 20)
    with pytest.raises(DataError, match=r"v09.npy: 1 NaN"):
        video.crop("rgb", 5, 20)


names = st.lists(st.text("abcdef0123", min_size=1, max_size=8), min_size=2, max_size=40, unique=True)


@given(names, st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_validation_depends_on_names_only(ids: list[str], fraction: float, random: object) -> None:
    chosen = validation_ids(ids, fraction)
    shuffled = list(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert validation_ids(shuffled, fraction) == chosen
    assert 1 <= len(chosen) < len(ids)
    assert abs(len(chosen) - fraction * len(ids)) <= 1
    assert chosen <= validation_ids(ids, min(fraction + 0.2, 0.99))


def test_one_video_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 training video"):
        validation_ids(["a"], 0.3)


def test_fingerprint_depends_on_content_not_path(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    spec = small_dataset(first)
    shutil.copytree(first, second)
    modalities = {k: m.model_copy(update={"folder": second / k}) for k, m in spec.modalities.items()}
    update = {"annotations": second / "annotations.json", "modalities": modalities}
    moved = spec.model_copy(update=update)
    original = fingerprint(spec)
    assert len(original) == 16
    assert fingerprint(moved) == original
    assert with_fingerprint(moved).fingerprint == original
    (second / "rgb" / "unused.npy").write_bytes(b"a stranger does not matter")
    assert fingerprint(moved) == original
    values = np.load(second / "flow" / "v12.npy")
    np.save(second / "flow" / "v12.npy", values + 1)
    assert fingerprint(moved) != original
    np.save(second / "flow" / "v12.npy", values)
    assert fingerprint(moved) == original
    with (second / "annotations.json").open("a") as file:
        file.write(" ")
    assert fingerprint(moved) != original


def test_fingerprint_of_a_missing_file(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    (tmp_path / "rgb" / "v05.npy").unlink()
    with pytest.raises(DataError, match=r"v05.npy: missing feature file"):
        fingerprint(spec)


def test_fingerprint_covers_both_ends_and_the_size(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    path = tmp_path / "rgb" / "v00.npy"
    seen = set()
    for content in (b"a" * 300_000, b"b" + b"a" * 299_999, b"a" * 299_999 + b"b", b"a" * 300_001):
        path.write_bytes(content)
        seen.add(fingerprint(spec))
    assert len(seen) == 4


def test_mapped_streams_are_cut_to_the_shortest(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    path = tmp_path / "flow" / "v09.npy"
    np.save(path, np.load(path)[:-2])
    video = open_dataset(spec, ["rgb", "flow"], memory_limit=0).videos("test")[0]
    assert len(video.features["rgb"]) == len(video.features["flow"]) == video.steps
