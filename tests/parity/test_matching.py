"""Pairing of detections whose order may differ."""

from __future__ import annotations

import numpy as np

from .checks.matching import Detections, matched, pairs


def made(segments: list[tuple[float, float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(np.array(segments, dtype=np.float32), np.array(scores), np.array(labels))


def test_equal_segments_are_paired_by_score() -> None:
    scores = [0.5 * (1 + 4e-5 * i) for i in range(12, 0, -1)]
    theirs = made([(3.0, 9.0)] * 12, scores, [1] * 12)
    ours = made([(3.0, 9.0)] * 12, [s * (1 + 5e-6) for s in reversed(scores)], [1] * 12)
    assert pairs(ours, theirs).tolist() == list(range(11, -1, -1))
    compared = list(matched("x", ours, theirs, lambda segment, score: False))
    assert all(one.ok for one in compared)
    assert max(one.error for one in compared if "scores" in one.what) < 6e-6


def test_equal_scores_are_paired_by_segment() -> None:
    segments = [(0.0, 4.0), (1.0, 5.0), (2.0, 6.0)]
    theirs = made(segments, [0.7] * 3, [0] * 3)
    ours = made(segments[::-1], [0.7, 0.7 * (1 - 1e-6), 0.7 * (1 + 1e-6)], [0] * 3)
    assert pairs(ours, theirs).tolist() == [2, 1, 0]


def test_another_label_or_score_is_no_pair() -> None:
    theirs = made([(0.0, 4.0)] * 3, [0.7, 0.5, 0.2], [0, 0, 1])
    ours = made([(0.0, 4.0)] * 3, [0.7, 0.501, 0.2], [0, 0, 2])
    assert pairs(ours, theirs).tolist() == [0, -1, -1]
    missing, *_ = matched("x", ours, theirs, lambda segment, score: False)
    assert not missing.ok
    assert "2 missing, 2 too many" in missing.what


def test_a_wrong_segment_is_paired_and_fails() -> None:
    theirs = made([(0.0, 4.0), (1.0, 5.0)], [0.7, 0.7], [0, 0])
    ours = made([(1.0, 5.0), (0.0, 4.5)], [0.7, 0.7], [0, 0])
    assert pairs(ours, theirs).tolist() == [1, 0]
    *_, segments = matched("x", ours, theirs, lambda segment, score: False)
    assert not segments.ok


def test_times_that_the_original_leaves_undefined_are_not_compared() -> None:
    theirs = made([(np.nan, np.nan), (1.0, 5.0)], [0.7, 0.7], [0, 0])
    ours = made([(1.0, 5.0), (2.0, 2.0)], [0.7, 0.7], [0, 0])
    assert pairs(ours, theirs).tolist() == [1, 0]
