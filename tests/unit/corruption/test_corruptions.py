"""Corruptions: the frames they select, their effect, and the features of corrupted videos."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from clips import noise_frames
from hypothesis import given
from hypothesis import strategies as st

from tal_bench.cli import main
from tal_bench.corruption.action_runs import FrameRun, action_runs, middle_runs, step_runs
from tal_bench.corruption.extract import Grid, SourceVideo, corrupt_video
from tal_bench.corruption.features import corrupt_features
from tal_bench.corruption.frames import corrupt_frames
from tal_bench.corruption.registry import FULL_SHARE, Condition, conditions, corruptions
from tal_bench.data.datasets.sprites.extract import footage
from tal_bench.data.datasets.sprites.settings import SpritesSettings
from tal_bench.data.datasets.sprites.streams import network_streams
from tal_bench.errors import DataError, InputError
from tal_bench.extraction.features import extract
from tal_bench.extraction.workers import one_thread

PIXELS = [name for name in corruptions if corruptions.get(name).on == "pixels"]
ON_ACTIONS = [name for name in PIXELS if corruptions.get(name).extent == "actions"]
FRAMES = noise_frames(12, size=48)
RUNS: list[FrameRun] = [(3, 6), (8, 9)]


def corrupt(name: str, severity: int, *, video: str = "v", seed: int = 0) -> list[np.ndarray]:
    runs = RUNS if name in ON_ACTIONS else None
    return list(corrupt_frames(FRAMES, Condition(name, severity, 0.1), runs, video=video, seed=seed))


def distance(name: str, severity: int) -> float:
    pairs = zip(FRAMES, corrupt(name, severity), strict=True)
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs]))


def test_registered_corruptions() -> None:
    assert PIXELS == [
        "black-frame",
        "motion-blur",
        "overexposure",
        "occlusion",
        "packet-loss",
        "gaussian-noise",
        "brightness",
    ]
    assert all(len(corruptions.get(name).levels) == 3 for name in PIXELS)
    assert len(conditions()) == 5 * 3 * 3 + 2 * 3
    assert {c.share for c in conditions(["occlusion"])} == {0.01, 0.05, 0.1}
    assert {c.share for c in conditions(["brightness"], shares=[0.05])} == {FULL_SHARE}
    assert len({c.folder(0) for c in conditions()}) == 51
    assert conditions()[0].folder(0) != conditions()[0].folder(1)


@pytest.mark.parametrize("name", PIXELS)
def test_distance_grows_with_severity_and_severity_0_changes_nothing(name: str) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(FRAMES, corrupt(name, 0), strict=True))
    assert 0 < distance(name, 1) < distance(name, 2) < distance(name, 3)


@pytest.mark.parametrize("name", ON_ACTIONS)
def test_only_frames_in_the_runs_change(name: str) -> None:
    before = [frame.copy() for frame in FRAMES]
    changed = [not np.array_equal(a, b) for a, b in zip(FRAMES, corrupt(name, 3), strict=True)]
    assert [k for k, is_changed in enumerate(changed) if is_changed] == [3, 4, 5, 8]
    assert all(np.array_equal(a, b) for a, b in zip(before, FRAMES, strict=True)), "the input is not touched"


@pytest.mark.parametrize("name", ["motion-blur", "occlusion", "packet-loss", "gaussian-noise"])
def test_random_numbers_depend_on_video_and_seed(name: str) -> None:
    same, again = corrupt(name, 2), corrupt(name, 2)
    assert all(np.array_equal(a, b) for a, b in zip(same, again, strict=True))
    for other in (corrupt(name, 2, video="w"), corrupt(name, 2, seed=1)):
        assert any(not np.array_equal(a, b) for a, b in zip(same, other, strict=True))


def test_effect_of_each_corruption() -> None:
    grey = [np.full((40, 40, 3), 100, np.uint8)] * 3
    one: list[FrameRun] = [(1, 3)]

    def second(name: str, severity: int) -> np.ndarray:
        seen = corrupt_frames(grey, Condition(name, severity, 0.1), one, video="v", seed=0)
        return list(seen)[1]

    assert (second("black-frame", 3) == 0).all()
    assert (second("black-frame", 1) == 25).all()
    assert (second("overexposure", 3) == 253).all()
    assert np.abs(second("motion-blur", 3).astype(int) - 100).max() <= 1, "of an even picture nothing moves"
    assert (second("packet-loss", 3) == 100).all(), "what stands in is the frame before"
    covered = (second("occlusion", 2) != 100).any(axis=2).mean()
    assert covered == pytest.approx(0.3, abs=0.03)
    noise = next(
        islice(
            corrupt_frames(grey, Condition("gaussian-noise", 1, FULL_SHARE), None, video="v", seed=0), 1, 2
        )
    )
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.05)


def test_occluders_do_not_move_and_noise_changes() -> None:
    still = [np.full((40, 40, 3), 100, np.uint8)] * 4
    for name, steady in (("occlusion", True), ("gaussian-noise", False)):
        runs: list[FrameRun] | None = [(0, 4)] if steady else None
        first, second = islice(corrupt_frames(still, Condition(name, 2, 0.1), runs, video="v", seed=0), 2)
        assert np.array_equal(first, second) == steady


segments = st.lists(
    st.tuples(st.floats(0, 60), st.floats(0.1, 20)).map(lambda x: (x[0], x[0] + x[1])), max_size=6
)


@given(segments, st.sampled_from([1.0, 8.0, 25.0]), st.sampled_from([0.01, 0.05, 0.1, 0.5]))
def test_the_middle_of_every_action_is_corrupted(
    actions: list[tuple[float, float]], fps: float, share: float
) -> None:
    runs = action_runs(np.array(actions).reshape(-1, 2), fps)
    for (start, end), (first, after), hit in zip(actions, runs, middle_runs(runs, share), strict=True):
        inside = [k for k in range(int(90 * fps)) if start <= (k + 0.5) / fps < end]
        assert abs(len(inside) - (after - first)) <= 1, "centres on a bound are a matter of rounding"
        count = hit[1] - hit[0]
        assert first <= hit[0] <= hit[1] <= after, "never outside the action"
        if after > first:
            assert count == max(1, int(np.floor(share * (after - first) + 0.5)))
            assert abs((hit[0] - first) - (after - hit[1])) <= 1
    for small, large in zip(middle_runs(runs, share / 2), middle_runs(runs, share), strict=True):
        assert large[0] <= small[0] <= small[1] <= large[1]


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 8)).map(lambda x: (x[0], x[0] + x[1])), max_size=5),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 4),
)
def test_step_runs_are_the_steps_that_depend_on_corrupted_frames(
    runs: list[FrameRun], stride: int, window: int, context_frames: int
) -> None:
    steps = max(1, (90 - window) // stride + 1)
    found = step_runs(runs, stride=stride, window=window, context_frames=context_frames, steps=steps)
    hit = {k for run in runs for k in range(*run)}
    affected = {
        i
        for i in range(steps)
        if hit & set(range(i * stride - context_frames, i * stride + window + context_frames))
    }
    assert {i for run in found for i in range(run.first_step, run.end_step)} == affected
    for run in found:
        assert run.first_frame % stride == 0
        assert run.first_frame <= max(0, run.first_step * stride - context_frames)
        assert run.end_frame >= (run.end_step - 1) * stride + window + context_frames


def source_video(video: str, steps: int) -> SourceVideo:
    actions = np.array([[4.0, 9.0], [6.0, 12.5], [70.0, 78.0]])
    return SourceVideo(video, lambda: footage(video), actions, 8.0, steps)


@pytest.mark.parametrize("name", ["packet-loss", "occlusion", "brightness"])
def test_partial_extraction_equals_that_of_the_whole_video(name: str) -> None:
    settings = SpritesSettings()
    video = "sprites_extra_0003"
    streams = network_streams(settings)
    with one_thread():
        frames = footage(video)
        clean = extract(frames, streams, stride=2, window=1, batch=48)
        steps = len(clean["rgb"])
        condition = Condition(name, 3, FULL_SHARE if name == "brightness" else 0.1)
        one = source_video(video, steps)
        ((given, changed),) = corrupt_video(one, streams, Grid(2, 1, 48), [condition])
        runs = None if name == "brightness" else middle_runs(action_runs(one.segments, 8.0), 0.1)
        whole = extract(
            corrupt_frames(frames, condition, runs, video=video, seed=0),
            streams,
            stride=2,
            window=1,
            batch=48,
        )
    assert given == condition
    for stream, values in changed.items():
        merged = clean[stream].copy()
        merged[values.steps] = values.values
        np.testing.assert_allclose(merged, whole[stream], atol=2e-4)
        assert not np.allclose(merged, clean[stream], atol=0.1), "it makes a difference"
        assert len(values.steps) == steps if runs is None else len(values.steps) < 0.2 * steps


def test_videos_that_do_not_match_their_features_are_rejected() -> None:
    streams = network_streams(SpritesSettings())
    wanted = [Condition("brightness", 1, FULL_SHARE)]
    with pytest.raises(DataError, match="no longer has the 9 steps"):
        list(corrupt_video(source_video("sprites_extra_0003", 9), streams, Grid(2, 1, 48), wanted))


def test_features_are_dropped_in_the_middle_of_actions() -> None:
    features = np.random.default_rng(0).normal(3.0, 2.0, (100, 5)).astype(np.float32)
    actions = np.array([[10.0, 30.0], [50.0, 70.0]])
    out = corrupt_features(features, Condition("dropped-steps", 1, 0.1), actions, video="v", seed=0)
    assert np.flatnonzero((out == 0).all(axis=1)).tolist() == [19, 20, 59, 60]
    kept = np.delete(np.arange(100), [19, 20, 59, 60])
    np.testing.assert_array_equal(out[kept], features[kept])
    noisy = corrupt_features(features, Condition("feature-noise", 2, FULL_SHARE), actions, video="v", seed=0)
    np.testing.assert_allclose((noisy - features).std(0), 0.5 * features.std(0), rtol=0.25)
    same = corrupt_features(features, Condition("feature-noise", 0, FULL_SHARE), actions, video="v", seed=0)
    np.testing.assert_array_equal(same, features)


@pytest.mark.parametrize(
    ("names", "severities", "shares", "message"),
    [
        (["occlusio"], [], [], "unknown corruption 'occlusio' .did you mean 'occlusion'"),
        (["dropped-steps"], [], [], "'dropped-steps' changes features, but pixels are corrupted here"),
        ([], [4], [], "--severity: got 4"),
        ([], [0], [], "--severity: got 0"),
        ([], [], [1.5], "--share: got 1.5"),
        ([], [], [float("nan")], "--share: got nan"),
    ],
)
def test_invalid_conditions(
    names: list[str], severities: list[int], shares: list[float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        conditions(names, severities, shares)


PLUGIN = """
from tal_bench.corruption.registry import Corruption, corruptions

def mirror(frame, level, rng, before):
    return frame[:, ::-1].copy()

corruptions.add("mirrored", Corruption("mirrored", "left is right", (1.0,), mirror, extent="video"))
"""


def test_plugin_adds_a_corruption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    try:
        assert main(["list", "corruptions", "--plugin", str(file)]) == 0
        assert "left is right" in capsys.readouterr().out
        (one,) = conditions(["mirrored"])
        (out,) = corrupt_frames(FRAMES[:1], one, None, video="v", seed=0)
        assert np.array_equal(out, FRAMES[0][:, ::-1])
    finally:
        corruptions._entries.pop("mirrored", None)
