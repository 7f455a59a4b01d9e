"""Tests of the feature grid: offsets, downsampling, resizing, and files of several folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import FPS, small_dataset
from hypothesis import given
from hypothesis import strategies as st

from tal_bench.config import DatasetSpec
from tal_bench.data.dataset import open_dataset
from tal_bench.data.feature_grid import resized, timing, to_grid, to_seconds
from tal_bench.data.features import read_features
from tal_bench.errors import DataError
from tal_bench.training.prediction import grid_to_seconds


def with_(spec: DatasetSpec, **changes: Any) -> DatasetSpec:
    return DatasetSpec.model_validate({**spec.model_dump(), **changes})


@given(st.integers(1, 300), st.integers(1, 200))
def test_resizing_equals_torch(steps: int, length: int) -> None:
    """In double precision, as torch rounds positions in single precision."""
    values = np.random.default_rng(steps).normal(size=(steps, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values.T)[None].double(), size=length, mode="linear", align_corners=False
    )[0].T
    np.testing.assert_allclose(resized(values, length), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_resized_videos_cover_the_same_time(tmp_path: Path, memory_limit: int) -> None:
    spec = with_(small_dataset(tmp_path), resize=32)
    data = open_dataset(spec, ["rgb", "flow"], memory_limit=memory_limit)
    raw = np.load(tmp_path / "rgb" / "v09.npy")
    video = data.videos("test")[0]
    assert video.steps == len(video.features["rgb"]) == 32
    stride = ((len(raw) - 1) * spec.stride + spec.window) / 32
    assert video.meta.stride == video.meta.window == pytest.approx(stride)
    np.testing.assert_allclose(video.crop("rgb", 0, 32), resized(raw, 32), atol=1e-4)
    expected = (np.array([1.0, 3.0]) * FPS - 0.5 * stride) / stride
    np.testing.assert_allclose(video.segments[0], expected, rtol=1e-5)
    np.testing.assert_allclose(grid_to_seconds(video.segments, video.meta), video.segments_seconds, atol=1e-4)


def test_features_that_cover_the_video_evenly_need_no_stride(tmp_path: Path) -> None:
    spec = with_(small_dataset(tmp_path), stride=0)
    at = timing(spec, 50, fps=30.0, duration=100.0)
    assert (at.stride, at.window, at.steps) == (60.0, 60.0, 50)
    at = timing(with_(spec, resize=20), 50, fps=30.0, duration=100.0)
    assert (at.stride, at.window, at.steps) == (150.0, 150.0, 20)


def test_every_second_feature(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    whole, half = (open_dataset(s, ["rgb"]).videos("test")[0] for s in (spec, with_(spec, downsample=2)))
    np.testing.assert_array_equal(half.features["rgb"], whole.features["rgb"][::2])
    assert (half.meta.stride, half.meta.window) == (2 * spec.stride, spec.window)
    np.testing.assert_allclose(half.segments, whole.segments / 2)


@given(st.floats(-50, 50), st.floats(0, 64), st.floats(0.5, 32))
def test_an_offset_shifts_the_grid(offset: float, window: float, stride: float) -> None:
    seconds = np.array([0.0, 3.5])
    grid = to_grid(seconds, 25.0, stride, window, offset)
    np.testing.assert_allclose(grid, to_grid(seconds - offset / 25.0, 25.0, stride, window), atol=1e-6)
    np.testing.assert_allclose(to_seconds(grid, 25.0, stride, window, offset), seconds, atol=1e-9)


def test_offset_is_inverted_in_decoding(tmp_path: Path) -> None:
    video = open_dataset(with_(small_dataset(tmp_path), offset=3), ["rgb"]).videos("test")[0]
    assert video.meta.offset == 3
    np.testing.assert_allclose(grid_to_seconds(video.segments, video.meta), video.segments_seconds, atol=1e-5)


def also(spec: DatasetSpec, channels: int) -> DatasetSpec:
    modality = spec.modalities["rgb"].model_copy(
        update={"also": (spec.modalities["flow"].folder,), "channels": channels}
    )
    return spec.model_copy(update={"modalities": {"both": modality}})


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_files_of_several_folders_are_concatenated(tmp_path: Path, memory_limit: int) -> None:
    spec = small_dataset(tmp_path)
    apart = read_features(spec, "v09", ["rgb", "flow"])
    video = open_dataset(also(spec, 8), ["both"], memory_limit=memory_limit).videos("test")[0]
    np.testing.assert_array_equal(video.crop("both", 0, video.steps), np.hstack(list(apart.values())))


def test_folders_of_wrong_width(tmp_path: Path) -> None:
    spec = small_dataset(tmp_path)
    with pytest.raises(DataError, match="6 \\+ 2 channels in 2 folders, expected 9"):
        read_features(also(spec, 9), "v09", ["both"])
    flow = tmp_path / "flow" / "v09.npy"
    np.save(flow, np.load(flow)[:-5])
    with pytest.raises(DataError, match="streams differ in length"):
        read_features(also(spec, 8), "v09", ["both"])
    flow.unlink()
    with pytest.raises(DataError, match=r"flow/v09.npy: missing feature file"):
        read_features(also(spec, 8), "v09", ["both"])
    assert "v09" in open_dataset(also(with_(spec, missing="skip"), 8), ["both"]).selection.skipped
