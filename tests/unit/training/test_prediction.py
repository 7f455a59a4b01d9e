"""Decoding of logits and offsets to segments in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_spec

from tal_bench.config import DecodeSpec
from tal_bench.data.dataset import open_dataset
from tal_bench.data.registry import read_dataset_file
from tal_bench.inference.detections import detections_json, detections_table, ground_truth_table
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.training.decoding.candidates import candidates, level_candidates
from tal_bench.training.device import Device
from tal_bench.training.prediction import decode, grid_to_seconds, predict
from tal_bench.types import DetectorOutput, Segments, VideoMeta


@given(st.integers(0, 2**31), st.integers(1, 12), st.booleans(), st.sampled_from([1, 5, 2000]))
@settings(max_examples=60, deadline=None)
def test_candidates_of_a_level_agree_with_a_plain_loop(seed: int, T: int, per_class: bool, topk: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((T, 3)).astype(np.float32)
    offsets = random.random((T, 3, 2) if per_class else (T, 2)).astype(np.float32) * 2
    rules = DecodeSpec(min_score=0.3, topk=topk, min_length=0.8)
    found = []
    for t in range(T):
        for c in range(3):
            left, right = offsets[t, c] if per_class else offsets[t]
            if scores[t, c] > 0.3:
                found.append((float(scores[t, c]), 4 * t - 4 * left, 4 * t + 4 * right, c))
    found = [f for f in sorted(found, reverse=True)[:topk] if f[2] - f[1] > 0.8]
    segments, score, label = level_candidates(scores, offsets, 4.0, rules)
    np.testing.assert_allclose(segments, np.array([f[1:3] for f in found]).reshape(-1, 2), atol=1e-4)
    np.testing.assert_allclose(score, [f[0] for f in found])
    assert label.tolist() == [f[3] for f in found]
    assert label.dtype == np.int64


def video(**changes: float) -> VideoMeta:
    return VideoMeta(**{"id": "v", "duration": 20.0, "fps": 10.0, "stride": 4.0, "window": 16.0, **changes})


def test_grid_positions_become_seconds_within_the_video() -> None:
    grid = np.array([[0.0, 10.0], [-9.0, 99.0]], dtype=np.float32)
    np.testing.assert_allclose(grid_to_seconds(grid, video()), [[0.8, 4.8], [0.0, 20.0]])
    np.testing.assert_allclose(grid_to_seconds(grid[:1], video(first_step=5)), [[2.8, 6.8]])
    assert grid_to_seconds(grid, video()).dtype == np.float32


def output(lengths: tuple[int, ...]) -> DetectorOutput:
    g = torch.Generator().manual_seed(3)
    levels = (16, 8)
    mask = [torch.arange(T) * (16 // T) < torch.tensor(lengths)[:, None] for T in levels]
    return DetectorOutput(
        logits=[torch.randn(len(lengths), T, 3, generator=g) for T in levels],
        offsets=[torch.rand(len(lengths), T, 2, generator=g) + 0.1 for T in levels],
        mask=mask,
        inputs=torch.zeros(len(lengths), 6, 16),
        stem=torch.zeros(len(lengths), 5, 16),
    )


def test_padding_gives_no_candidates() -> None:
    rules = DecodeSpec(min_score=0.0)
    (_, score, _), (short, _, _) = candidates(output((16, 5)), rules)
    assert len(score) == (16 + 8) * 3
    centres = short.mean(axis=1)
    assert len(short) == (5 + 3) * 3
    assert centres.max() < 5 + 2


@pytest.mark.parametrize("nms", ["gaussian", "linear", "hard", "none"])
def test_decoding_respects_its_limits(nms: str) -> None:
    rules = DecodeSpec(max_detections=4, nms=nms, min_score=0.01)
    metas = [video(id="a"), video(id="b")]
    found = list(decode(output((16, 5)), metas, rules))
    assert [f.video for f in found] == ["a", "b"]
    for f in found:
        assert f.segments.shape == (len(f.scores), 2)
        assert bool((np.diff(f.scores) <= 0).all()) or nms == "none"
        assert bool((f.segments[:, 0] <= f.segments[:, 1]).all())
        assert nms == "none" or len(f.scores) <= 4


@pytest.mark.parametrize("name", ["actionformer", "conv-dw-hallucinated"])
def test_a_videos_detections_do_not_depend_on_the_batch(dataset_file: Path, name: str) -> None:
    data = open_dataset(read_dataset_file(dataset_file), ("rgb", "flow"))
    torch.manual_seed(0)
    architecture = detector_spec(get_model(name), tiny_spec(), 3)
    net = get_model(name).build(architecture)
    rules = DecodeSpec(min_score=1e-4, nms="none")

    def found(size: int) -> dict[str, Segments]:
        device = Device("cpu")
        every = predict(net, architecture, data.videos("test"), rules, device, batch_size=size)
        return {f.video: f for f in every}

    one, all_ = found(1), found(8)
    assert one.keys() == all_.keys() == {v.meta.id for v in data.videos("test")}
    for name_, f in one.items():
        np.testing.assert_allclose(f.scores, all_[name_].scores, rtol=1e-3)
        assert len(f.scores) > 0


def test_videos_longer_than_the_maximum_are_not_cut(dataset_file: Path) -> None:
    data = open_dataset(read_dataset_file(dataset_file), ("rgb",))
    torch.manual_seed(0)
    architecture = detector_spec(get_model("conv-primary"), tiny_spec(), 3)
    short = architecture.model_copy(update={"max_length": 32})  # convolutions have no maximal length
    net = get_model("conv-primary").build(architecture)
    rules, device = DecodeSpec(min_score=1e-4, nms="none"), Device("cpu")
    for a, b in zip(
        sorted(predict(net, architecture, data.videos("test"), rules, device), key=lambda f: f.video),
        sorted(predict(net, short, data.videos("test"), rules, device), key=lambda f: f.video),
        strict=True,
    ):
        np.testing.assert_allclose(a.segments, b.segments, atol=1e-3)
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3)


def test_tables_of_detections_and_labels(dataset_file: Path) -> None:
    data = open_dataset(read_dataset_file(dataset_file), ("rgb",))
    nothing = Segments("a", np.zeros((0, 2), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    segments = np.array([[1.00049, 2.0], [0.0, 3.3333333]], np.float32)
    some = Segments("b", segments, np.array([0.9, 1e-3 / 3], np.float32), np.array([2, 0]))
    table = detections_table([nothing, some], data.classes)
    assert table["video"].tolist() == ["b", "b"]
    assert table["label"].tolist() == [data.classes[2], data.classes[0]]
    assert table["start"].tolist() == [1.0, 0.0]
    assert table["end"].tolist() == [2.0, 3.333]
    assert table["score"].tolist() == pytest.approx([0.9, 0.00033333], rel=1e-9)
    assert detections_json(table)["results"]["b"][0]["segment"] == [1.0, 2.0]
    assert len(detections_table([nothing], data.classes)) == 0
    truth = ground_truth_table(data.videos("test"), data.classes)
    assert len(truth) == sum(len(v.labels) for v in data.videos("test"))
    assert bool((truth["start"] < truth["end"]).all())
