"""External scores of videos, and the metrics of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny import tiny_spec

from tal_bench.data.video_scores import read_scores
from tal_bench.errors import DataError
from tal_bench.evaluation.mean_ap import interpolated_ap, thumos_ap
from tal_bench.inference.scoring import average_precision, describe_evaluation, recalls
from tal_bench.training.decoding.score_fusion import fuse_video_scores
from tal_bench.types import Segments

CLASSES = ("jump", "Long Run", "throw")


def written(folder: Path, value: Any) -> Path:
    path = folder / "scores.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    "value",
    [
        {"results": {"v": [0.3, 0.9, 0.1, 0.2]}, "class": ["throw", "other", "JUMP", "long_run"]},
        {"results": {"v": [[0.3, 0.1, 0.2]]}, "classes": ["throw", "jump", "long run"]},
        {"results": {"v": [0.1, 0.2, 0.3]}},
        {"v": [0.1, 0.2, 0.3]},
        {"v": {"LongRun": 0.2, "throw": 0.3, "jump": 0.1, "more": 1}},
        {"results": {"v": {"Long Run": 0.2, "throw": 0.3, "jump": 0.1}}},
    ],
)
def test_scores_are_read_in_the_order_of_the_classes(tmp_path: Path, value: Any) -> None:
    scores = read_scores(written(tmp_path, value), CLASSES)
    assert scores.keys() == {"v"}
    assert scores["v"].tolist() == [0.1, 0.2, 0.3]


def test_exact_names_of_scores_win(tmp_path: Path) -> None:
    value = {"v": {"Run": 1, "run": 2, " run": 3, "JUMP": 4}}
    scores = read_scores(written(tmp_path, value), ("run", " run", "Run", "jump"))
    assert scores["v"].tolist() == [2, 3, 1, 4]
    with pytest.raises(DataError, match="differ only in case, spaces or underscores"):
        read_scores(written(tmp_path, {"v": {"RUN": 1}}), ("run", "Run"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not valid JSON"),
        ([], "no scores of videos"),
        ({}, "no scores of videos"),
        ({"results": []}, "no scores of videos"),
        ({"results": {"v": [1, 2, 3]}, "class": "jump"}, "'class' is not a list of names"),
        (
            {"results": {"v": [1, 2, 3]}, "class": ["jump", "throw"]},
            "no scores of 1 classes, first 'Long Run'",
        ),
        ({"results": {"v": [1, 2]}}, "video 'v': 2 scores, expected 3 scores"),
        ({"results": {"v": [1, 2, 3, 4]}}, "4 scores, expected 3 scores"),
        ({"results": {"v": "high"}}, "a str, expected 3 scores"),
        ({"results": {"v": [1, 2, "x"]}}, "a score is not a number"),
        ({"results": {"v": [1, 2, -3]}}, "a score is negative or not finite"),
        ('{"results": {"v": [1, 2, NaN]}}', "a score is negative or not finite"),
        ({"v": {"jump": 1}}, "video 'v': no scores of 2 classes"),
        (
            {"v": {"jump": 1, "throw": 2, "long_run": 3, "LongRun": 4}},
            "such as 'Long Run' differ only in case",
        ),
        ({"results": {"v": [1, 2, 3]}, "class": ["jump", "throw", "jump"]}, "class 'jump' is repeated"),
        ('{"v": [1, 2, 3], "v": [3, 2, 1]}', "duplicate key 'v'"),
    ],
)
def test_invalid_scores_are_rejected(tmp_path: Path, value: Any, message: str) -> None:
    path = written(tmp_path, value)
    with pytest.raises(DataError, match=message) as caught:
        read_scores(path, CLASSES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_segments_get_the_best_classes_of_their_video() -> None:
    found = Segments(
        "v",
        np.array([[1, 2], [3, 4]], dtype=np.float32),
        np.array([0.8, 0.2], dtype=np.float32),
        np.array([0, 0]),
    )
    named = fuse_video_scores(found, np.array([0.1, 0.5, 0.0, 0.9]), 2)
    assert named.labels.tolist() == [3, 1, 3, 1]
    assert named.segments[:, 0].tolist() == [1, 1, 3, 3]
    np.testing.assert_allclose(named.scores, np.sqrt([0.72, 0.4, 0.18, 0.1]), rtol=1e-6)
    assert (np.diff(named.scores) <= 0).all()
    assert len(fuse_video_scores(found, np.array([0.1]), 2).scores) == 2
    none = Segments("v", found.segments[:0], found.scores[:0], found.labels[:0])
    assert fuse_video_scores(none, np.array([0.1, 0.2]), 2).segments.shape == (0, 2)


TRUTH = pd.DataFrame(
    [("v", 0.0, 10.0, "jump"), ("v", 20.0, 30.0, "jump"), ("w", 0.0, 5.0, "jump")],
    columns=["video", "start", "end", "label"],
)
FOUND = pd.DataFrame(
    [("v", 0.0, 7.0, "jump", 0.9), ("v", 1.0, 10.0, "jump", 0.8), ("v", 50.0, 60.0, "jump", 0.7)],
    columns=["video", "start", "end", "label", "score"],
)


def test_ap_method_of_the_dataset() -> None:
    spec = tiny_spec()
    one = average_precision(spec, FOUND, TRUTH, ["v", "w"])
    other = average_precision(spec.model_copy(update={"ap_method": "thumos"}), FOUND, TRUTH, ["v", "w"])
    assert one.average == interpolated_ap(FOUND, TRUTH, spec.tiou, videos=["v", "w"]).average
    assert other.average == thumos_ap(FOUND, TRUTH, spec.tiou, videos=["v", "w"]).average
    assert one.average != other.average


def test_recall_is_computed_if_configured() -> None:
    assert recalls(tiny_spec(), FOUND, TRUTH, ["v", "w"]) == {}
    spec = tiny_spec().model_copy(update={"recall": (1, 5), "tiou": (0.5, 0.8)})
    found = recalls(spec, FOUND, TRUTH, ["v", "w"])
    assert found["recall_1x_0.50"] == pytest.approx(100 / 3)
    assert found["recall_1x_0.80"] == pytest.approx(100 / 3)
    assert set(found) == {f"recall_{k}x_{at}" for k in (1, 5) for at in ("0.50", "0.80", "avg")}


def test_description_of_the_metrics() -> None:
    spec = tiny_spec()
    assert describe_evaluation(spec) == "ActivityNet-style AP, tIoU 0.3:0.1:0.7, on test"
    changes = {"ap_method": "thumos", "exclude": ("a", "b"), "tiou": (0.5, 0.75, 0.95), "folds": 5, "fold": 1}
    text = describe_evaluation(spec.model_copy(update=changes))
    assert text == "original THUMOS'14 AP, tIoU 0.5, 0.75, 0.95, on fold 2 of 5, without a, b"
    assert "external scores (best 2)" in describe_evaluation(
        spec.model_copy(update={"scores": Path("x.json")})
    )
