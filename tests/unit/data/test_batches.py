from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import small_dataset
from hypothesis import given
from hypothesis import strategies as st

from tal_bench.config import TrainSpec
from tal_bench.data.batches import clip_segments, collate, evaluation_crops, random_crop, training_crops
from tal_bench.data.dataset import Video, open_dataset
from tal_bench.errors import InputError
from tal_bench.types import Batch, VideoMeta


def _video(steps: int, segments: list[tuple[float, float]], window: float = 4.0, name: str = "v") -> Video:
    values = np.repeat(np.arange(1, steps + 1, dtype=np.float32)[:, None], 3, axis=1)
    grid = np.array(segments, dtype=np.float32).reshape(-1, 2)
    labels = np.arange(len(grid), dtype=np.int64)
    meta = VideoMeta(name, steps / 4, 8.0, 2.0, window)
    return Video(meta, {"rgb": values}, grid, labels, grid.astype(np.float64), steps)


lengths = st.tuples(st.floats(-1, 200), st.floats(0.1, 80)).map(lambda p: (p[0], p[0] + p[1]))


@given(
    segments=st.lists(lengths, max_size=6),
    steps=st.integers(1, 200),
    max_length=st.integers(8, 120),
    truncation=st.floats(0.05, 1.0),
    window=st.sampled_from([0.0, 1.0, 16.0]),
    seed=st.integers(0, 2**32),
)
def test_a_crop_keeps_segments_inside_and_enough_of_them(
    segments: list[tuple[float, float]],
    steps: int,
    max_length: int,
    truncation: float,
    window: float,
    seed: int,
) -> None:
    video = _video(steps, segments, window)
    spec = TrainSpec(truncation=truncation)
    crop = random_crop(video, spec=spec, max_length=max_length, generator=np.random.default_rng(seed))
    slack = 0.5 * window / 2.0
    assert 0 <= crop.start < crop.stop <= steps
    if steps > max_length:
        assert crop.steps == max_length
    else:
        assert round(0.9 * steps) <= crop.steps <= steps or crop.steps == 1
    assert (crop.segments >= -slack - 1e-4).all()
    assert (crop.segments <= crop.steps + slack + 1e-4).all()
    for (start, end), label in zip(crop.segments, crop.labels, strict=True):
        whole = video.segments[label]
        assert end - start >= truncation * (whole[1] - whole[0]) - 1e-3
        assert start + crop.start >= whole[0] - 1e-3
        assert end + crop.start <= whole[1] + 1e-3


def test_the_threshold_is_exact() -> None:
    segments = np.array([[0, 10], [0, 9.9], [20, 40], [29, 41]], dtype=np.float32)
    cut, kept = clip_segments(segments, 5, 30, slack=0.0, truncation=0.5)
    assert kept.tolist() == [True, False, True, False]
    assert cut.tolist() == [[0, 5], [15, 25]]


def test_slack_keeps_a_segment_at_the_start() -> None:
    segments = np.array([[-2, 1]], dtype=np.float32)
    assert clip_segments(segments, 0, 10, slack=2.0, truncation=0.5)[0].tolist() == [[-2, 1]]
    assert len(clip_segments(segments, 0, 10, slack=0.0, truncation=0.5)[0]) == 0


def test_crops_are_drawn_until_one_has_a_segment() -> None:
    video = _video(1000, [(500, 504)], window=0.0)
    generator = np.random.default_rng(0)
    crops = [random_crop(video, spec=TrainSpec(), max_length=100, generator=generator) for _ in range(50)]
    assert all(len(crop.segments) for crop in crops)
    assert len({crop.start for crop in crops}) > 20


def _epoch(videos: list[Video], seed: int = 0, **changes: object) -> list[Batch]:
    arguments = {"spec": TrainSpec(batch_size=4), "max_length": 64} | changes
    drawn = training_crops(videos, generator=np.random.default_rng(seed), **arguments)  # type: ignore[arg-type]
    return [collate(crops, ["rgb"]) for crops in drawn]


def test_epoch_has_each_video_at_most_once() -> None:
    videos = [_video(50 + i, [(5, 15)], name=str(i)) for i in range(11)]
    batches = _epoch(videos)
    shown = [meta.id for batch in batches for meta in batch.videos]
    assert len(batches) == 2
    assert len(set(shown)) == len(shown) == 8
    assert shown != sorted(shown, key=int)


def test_batches_are_determined_by_the_generator() -> None:
    videos = [_video(50 + i, [(5, 15)], name=str(i)) for i in range(11)]
    one, same, other = _epoch(videos, 1), _epoch(videos, 1), _epoch(videos, 2)
    assert all(torch.equal(a.features["rgb"], b.features["rgb"]) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a.features["rgb"], b.features["rgb"]) for a, b in zip(one, other, strict=True))


def test_layout_mask_and_padding() -> None:
    videos = [_video(30 + 20 * i, [(5, 15), (20, 28)], name=str(i)) for i in range(4)]
    (batch,) = _epoch(videos, pad_to=96)
    features = batch.features["rgb"]
    assert features.shape == (4, 3, 96)
    assert features.transpose(1, 2).is_contiguous()
    assert batch.mask.dtype == torch.bool
    for i, meta in enumerate(batch.videos):
        steps = int(batch.mask[i].sum())
        assert batch.mask[i, :steps].all()
        expected = torch.arange(meta.first_step + 1, meta.first_step + steps + 1).float()
        assert torch.equal(features[i, 1, :steps], expected)
        assert (features[i, :, steps:] == 0).all()
        assert batch.segments[i].dtype == torch.float32
        assert batch.labels[i].dtype == torch.int64
        present = batch.labels[i] >= 0
        assert bool(present[: int(present.sum())].all()), "segments come before the empty places"
        assert not batch.segments[i][~present].any()
        whole = videos[int(meta.id)].segments[batch.labels[i][present].numpy()]
        inside = np.clip(whole - meta.first_step, -1, steps + 1)
        np.testing.assert_allclose(batch.segments[i][present].numpy(), inside, atol=1e-5)


def test_all_batches_have_room_for_the_segments_of_the_video_with_most() -> None:
    videos = [_video(30, [(4 * j, 4 * j + 3) for j in range(1 + i)], name=str(i)) for i in range(6)]
    two = TrainSpec(batch_size=2)
    shapes = {(batch.segments.shape, batch.labels.shape) for batch in _epoch(videos, spec=two)}
    assert shapes == {((2, 6, 2), (2, 6))}


def test_batches_are_as_long_as_their_longest_crop_needs() -> None:
    videos = [_video(20 + 4 * i, [(5, 15)], name=str(i)) for i in range(8)]
    lengths = []
    for batch in _epoch(videos, spec=TrainSpec(batch_size=2), length_of=lambda steps: steps + 3):
        assert batch.mask.shape[1] == batch.features["rgb"].shape[2] == int(batch.mask.sum(dim=1).max()) + 3
        lengths.append(batch.mask.shape[1])
    assert len(set(lengths)) > 1


def test_too_few_videos_is_an_error_before_the_first_batch() -> None:
    videos = [_video(50, [(5, 15)])] * 3
    spec, generator = TrainSpec(batch_size=4), np.random.default_rng(0)
    with pytest.raises(InputError, match="3 training videos are fewer than the batch size 4"):
        training_crops(videos, spec=spec, max_length=64, generator=generator)
    with pytest.raises(InputError, match="pad_to 32 is below max_length 64"):
        _epoch(videos * 2, pad_to=32)


def test_evaluation_batches_are_complete_and_independent() -> None:
    steps = [40, 100, 64, 65, 130, 97, 96]
    videos = [_video(n, [(-1, n + 5)], name=str(n)) for n in steps]
    seen = {}
    for crops in evaluation_crops(videos, batch_size=2, max_length=64, divisor=48):
        batch = collate(crops, ["rgb"])
        for i, meta in enumerate(batch.videos):
            assert meta.first_step == 0
            assert int(batch.mask[i].sum()) == int(meta.id)
            assert batch.segments[i].tolist() == [[-1, int(meta.id) + 5]]
            seen[int(meta.id)] = batch.mask.shape[1]
    assert seen == {40: 64, 64: 64, 65: 96, 96: 96, 100: 144, 130: 144, 97: 144}


def test_batches_have_all_streams(tmp_path: Path) -> None:
    dataset = open_dataset(small_dataset(tmp_path), ["rgb", "flow"])
    spec, generator = TrainSpec(batch_size=3), np.random.default_rng(0)
    for crops in training_crops(dataset.videos("train"), spec=spec, max_length=64, generator=generator):
        batch = collate(crops, ["rgb", "flow"])
        assert {name: x.shape for name, x in batch.features.items()} == {
            "rgb": (3, 6, 64),
            "flow": (3, 2, 64),
        }
        # Both streams are cut alike: they hold the same ramp.
        assert torch.equal(batch.features["rgb"][:, 0], batch.features["flow"][:, 0])


def test_collating_is_fast() -> None:
    videos = [_video(480, [(5, 15)] * 12, name=str(i)) for i in range(8)]
    for video in videos:
        video.features["rgb"] = np.ones((480, 128), dtype=np.float32)  # type: ignore[index]
    best = float("inf")
    for seed in range(20):
        start = time.perf_counter()
        _epoch(videos, seed, spec=TrainSpec(batch_size=8), max_length=480)
        best = min(best, time.perf_counter() - start)
    assert best < 5e-3  # 0.5 ms on a quiet core
