"""Non-maximum suppression against plain Python, its limits, and compilation without a writable cache."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.errors import InputError
from tal_bench.training.decoding import nms
from tal_bench.training.decoding.nms import NmsSettings, batched_nms, vote


def candidates(seed: int, n: int = 40, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 60, n)
    segments = np.stack([start, start + rng.lognormal(1.5, 0.8, n)], axis=1).astype(np.float32)
    return segments, rng.permutation(np.linspace(0.001, 1, n)).astype(np.float32), rng.integers(0, classes, n)


def overlap(a: Any, b: Any) -> float:
    inter = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    return float(inter / ((a[1] - a[0] + 1e-6) + (b[1] - b[0] + 1e-6) - inter))


def plain(segments: Any, scores: Any, chosen: NmsSettings) -> list[tuple[int, float]]:
    """Suppress one class by definition: select the best segment, then decay or remove the others."""
    left = {k: float(score) for k, score in enumerate(scores)}
    if chosen.mode == "hard" and chosen.min_score > 0:
        left = {k: score for k, score in left.items() if score > chosen.min_score}
    kept = []
    while left and len(kept) < chosen.max_per_class:
        best = max(left, key=lambda k: left[k])
        kept.append((best, left.pop(best)))
        for k in list(left):
            iou = overlap(segments[best], segments[k])
            if chosen.mode == "gaussian":
                left[k] *= math.exp(-(iou**2) / chosen.sigma)
            elif iou >= chosen.iou_threshold and chosen.mode in ("linear", "vanilla"):
                left[k] *= 1 - iou if chosen.mode == "linear" else 0.0
            elif iou >= chosen.iou_threshold and chosen.mode == "hard":
                del left[k]
                continue
            if chosen.mode in ("gaussian", "linear", "vanilla") and left[k] < chosen.min_score:
                del left[k]
    return kept


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(["gaussian", "linear", "vanilla", "hard", "none"]),
    st.sampled_from([0.0, 0.02, 0.2]),
    st.sampled_from([3, 200]),
)
def test_each_class_agrees_with_a_plain_loop(seed: int, mode: Any, min_score: float, limit: int) -> None:
    segments, scores, labels = candidates(seed)
    chosen = NmsSettings(mode=mode, min_score=min_score, iou_threshold=0.31, max_per_class=limit)
    result = batched_nms(segments, scores, labels, chosen)
    expected = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        expected += [(s, mine[k]) for k, s in plain(segments[mine], scores[mine], chosen)]
    expected.sort(key=lambda one: -one[0])
    np.testing.assert_allclose(result[1], [score for score, _ in expected], rtol=1e-4)
    positive = result[1] > 0  # scores that vanilla set to 0 may stand in any order
    rows = np.array([row for _, row in expected], dtype=np.int64)[positive]
    np.testing.assert_array_equal(result[0][positive], segments[rows])
    np.testing.assert_array_equal(result[2][positive], labels[rows])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["gaussian", "linear", "hard", "none"]), st.booleans())
def test_the_result_is_a_sorted_and_limited_part_of_the_input(seed: int, mode: Any, multiclass: bool) -> None:
    segments, scores, labels = candidates(seed)
    chosen = NmsSettings(mode=mode, multiclass=multiclass, max_per_class=7, max_total=11)
    out, decayed, classes = batched_nms(segments, scores, labels, chosen)
    assert len(out) == len(decayed) == len(classes) <= 11
    assert (np.diff(decayed) <= 0).all()
    given_rows = {(float(s), float(e), int(c)) for (s, e), c in zip(segments, labels, strict=True)}
    assert {(float(s), float(e), int(c)) for (s, e), c in zip(out, classes, strict=True)} <= given_rows
    if multiclass:
        assert np.bincount(classes).max() <= 7
    assert out.dtype == decayed.dtype == np.float32 and classes.dtype == np.int64


def test_the_best_segment_is_never_dropped_by_soft_nms() -> None:
    one = (np.array([[0, 1.0]]), np.array([1e-5]), np.array([0]))
    assert len(batched_nms(*one, NmsSettings(mode="gaussian"))[0]) == 1
    assert len(batched_nms(*one, NmsSettings(mode="hard"))[0]) == 0


@pytest.mark.parametrize("mode", ["gaussian", "linear", "vanilla", "hard", "none"])
@pytest.mark.parametrize("multiclass", [True, False])
def test_empty_input_gives_an_empty_result(mode: Any, multiclass: bool) -> None:
    chosen = NmsSettings(mode=mode, multiclass=multiclass, voting_threshold=0.7)
    segments, scores, labels = batched_nms(np.zeros((0, 2)), np.zeros(0), np.zeros(0, np.int64), chosen)
    assert segments.shape == (0, 2) and scores.shape == labels.shape == (0,)


def test_voting_is_a_weighted_mean_and_keeps_empty_segments() -> None:
    segments = np.array([[0, 4], [1, 5], [9, 9]], dtype=np.float32)
    scores = np.array([0.8, 0.4, 0.6], dtype=np.float32)
    by_tiou = vote(segments[[0, 2]], segments, scores, 0.5)
    np.testing.assert_allclose(by_tiou[0], [0.24 / 1.04, 4 + 0.24 / 1.04], rtol=1e-6)
    np.testing.assert_array_equal(by_tiou[1], [9, 9])
    by_score = vote(segments[:1], segments, scores, 0.5, "score")
    np.testing.assert_allclose(by_score[0], [1 / 3, 4 + 1 / 3], rtol=1e-6)


def test_voting_is_left_out_when_multiclass() -> None:
    segments, scores, labels = candidates(0)
    plain_settings = NmsSettings(voting_threshold=0.0)
    with_voting = NmsSettings(voting_threshold=0.5)
    for a, b in zip(
        batched_nms(segments, scores, labels, plain_settings),
        batched_nms(segments, scores, labels, with_voting),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "soft"},
        {"voting_weight": "iou"},
        {"sigma": 0.0},
        {"sigma": float("nan")},
        {"iou_threshold": 1.5},
        {"min_score": -0.1},
        {"voting_threshold": float("nan")},
        {"max_per_class": 0},
        {"max_total": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"nms.{next(iter(wrong))}"):
        NmsSettings(**wrong)


def test_bad_arrays_are_refused() -> None:
    segments, scores, labels = candidates(0)
    with pytest.raises(InputError, match="shapes"):
        batched_nms(segments, scores[:-1], labels, NmsSettings())
    with pytest.raises(InputError, match="not finite"):
        batched_nms(segments, np.where(scores > 0.5, np.nan, scores), labels, NmsSettings())


def test_inputs_are_unchanged_and_may_be_read_only() -> None:
    segments, scores, labels = candidates(0)
    before = [array.copy() for array in (segments, scores, labels)]
    for array in (segments, scores, labels):
        array.setflags(write=False)
    for multiclass in (True, False):
        batched_nms(segments, scores, labels, NmsSettings(multiclass=multiclass, voting_threshold=0.5))
    for array, old in zip((segments, scores, labels), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_it_works_without_a_writable_cache(tmp_path: Path) -> None:
    # files in place of numba's cache folders prevent caching even for the superuser
    copy = tmp_path / "nms_copy.py"
    shutil.copy(nms.__file__, copy)
    (tmp_path / "__pycache__").write_text("")
    blocked = tmp_path / "home"
    blocked.write_text("")
    environment = {
        **os.environ,
        "HOME": str(blocked),
        "XDG_CACHE_HOME": str(blocked),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    code = (
        "import numpy as np; from nms_copy import NmsSettings, batched_nms;"
        "print(len(batched_nms(np.eye(2)[:1], np.ones(1), np.zeros(1), NmsSettings(mode='hard'))[0]))"
    )
    # the segment [[1, 0]] has reversed ends, which suppression does not check
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "1"


@pytest.mark.parametrize("name", nms._KERNELS)
def test_kernels_let_other_threads_run(name: str) -> None:
    """Predictions on a GPU suppress the candidates of several videos at once."""
    assert nms._compiled(name).targetoptions["nogil"]  # type: ignore[attr-defined]
