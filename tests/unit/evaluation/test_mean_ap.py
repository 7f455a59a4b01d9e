"""Average precision and recall against reference implementations with plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.errors import DataError, InputError
from tal_bench.evaluation.files import read_detections, read_ground_truth
from tal_bench.evaluation.label_alignment import align_labels
from tal_bench.evaluation.matching import assign_in_order
from tal_bench.evaluation.mean_ap import ap_from_matches, interpolated_ap, match, thumos_ap, thumos_match
from tal_bench.evaluation.recall import average_recall, recall_at_k

THRESHOLDS = [0.3, 0.5, 0.7]


def tables(
    seed: int, n_det: int = 60, n_gt: int = 14, *, ties: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return dense segments on a coarse grid, with frequent ties of tIoU and conflicts in matching."""
    rng = np.random.default_rng(seed)

    def draw(n: int) -> dict[str, Any]:
        start = rng.integers(0, 12, n).astype(float)
        return {
            "video": rng.choice(["a", "b", "c"], n),
            "start": start,
            "end": start + rng.integers(1, 7, n),
            "label": rng.choice(["run", "swim"], n),
        }

    truth = pd.DataFrame(draw(n_gt)).drop_duplicates(ignore_index=True)
    found = pd.DataFrame(draw(n_det))
    score = rng.integers(0, 6, n_det) / 6 if ties else rng.permutation(n_det) / n_det
    return found.assign(score=score), truth


def tiou(a: Any, b: Any) -> float:
    inter = max(min(a.end, b.end) - max(a.start, b.start), 0.0)
    union = (b.end - b.start) + (a.end - a.start) - inter
    return float(inter / union)


def plain_flags(det: pd.DataFrame, gt: pd.DataFrame, label: str, threshold: float) -> list[bool]:
    """Return the true positives of one class by descending score, computed with plain loops."""
    order = np.argsort(det["score"].to_numpy(), kind="stable")[::-1]
    free, flags = set(range(len(gt))), []
    truths = list(gt.itertuples())
    for one in det.iloc[order].itertuples():
        if one.label != label:
            continue
        mine = [g for g in free if truths[g].video == one.video and truths[g].label == label]
        best = max(mine, key=lambda g: (tiou(one, truths[g]), g), default=None)
        hit = best is not None and tiou(one, truths[best]) >= threshold
        if hit:
            free.discard(best)
        flags.append(hit)
    return flags


def plain_ap(flags: list[bool], positives: int) -> float:
    tp = np.cumsum(flags)
    precision = np.concatenate([[0.0], tp / np.arange(1, len(flags) + 1), [0.0]])
    recall = np.concatenate([[0.0], tp / positives, [1.0]])
    for k in range(len(precision) - 2, -1, -1):
        precision[k] = max(precision[k], precision[k + 1])
    return float(((recall[1:] - recall[:-1]) * precision[1:]).sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_ap_equals_reference(seed: int, ties: bool) -> None:
    det, gt = tables(seed, ties=ties)
    result = interpolated_ap(det, gt, THRESHOLDS)
    for k, label in enumerate(result.classes):
        for t, threshold in enumerate(THRESHOLDS):
            flags = plain_flags(det, gt, label, threshold)
            expected = plain_ap(flags, int((gt["label"] == label).sum())) if flags else 0.0
            assert result.ap[t, k] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_weights_equal_repeated_videos(seed: int) -> None:
    det, gt = tables(seed)
    matches = match(det, gt, THRESHOLDS, videos=["a", "b", "c"])
    weights = np.random.default_rng(seed).integers(0, 4, len(matches.videos))

    def repeat(table: pd.DataFrame) -> pd.DataFrame:
        copies = [
            table[table["video"] == video].assign(video=f"{video}{k}")
            for video, weight in zip(matches.videos, weights, strict=True)
            for k in range(weight)
        ]
        # Copies of one detection side by side, as a tie in score leaves the order to the table.
        return pd.concat([*copies, table.iloc[:0]]).sort_index(kind="stable").reset_index(drop=True)

    truth = repeat(gt)
    if truth.empty:
        return
    copied = interpolated_ap(repeat(det), truth, THRESHOLDS)
    weighted = ap_from_matches(matches, weights)
    for k, label in enumerate(matches.classes):
        if label in copied.classes:
            ours = copied.ap[:, copied.classes.index(label)]
            np.testing.assert_allclose(weighted[:, k], ours, atol=1e-12)
        else:
            assert np.isnan(weighted[:, k]).all()


def test_weights_of_many_draws() -> None:
    det, gt = tables(3)
    matches = match(det, gt, THRESHOLDS)
    weights = np.random.default_rng(0).integers(0, 3, (7, len(matches.videos)))
    together = ap_from_matches(matches, weights)
    for draw, ap in zip(weights, together, strict=True):
        np.testing.assert_array_equal(ap, ap_from_matches(matches, draw))
    np.testing.assert_array_equal(ap_from_matches(matches), ap_from_matches(matches, np.ones(3)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=6, unique=True), max_size=12))
def test_assign_in_order_equals_loop(lists: list[list[int]]) -> None:
    chooser = np.array([k for k, wish in enumerate(lists) for _ in wish], dtype=np.int64)
    option = np.array([one for wish in lists for one in wish], dtype=np.int64)
    expected = np.full(6, len(lists))
    for k, wish in enumerate(lists):
        free = [one for one in wish if expected[one] == len(lists)]
        if free:
            expected[free[0]] = k
    np.testing.assert_array_equal(assign_in_order(chooser, option, len(lists), 6), expected)


def test_perfect_and_empty_detections() -> None:
    _, gt = tables(1)
    perfect = interpolated_ap(gt.assign(score=1.0), gt, THRESHOLDS)
    assert perfect.average == 1.0
    nothing = interpolated_ap(gt.assign(score=1.0).iloc[:0], gt, THRESHOLDS)
    assert nothing.average == 0.0


def test_a_tie_in_tiou_goes_to_the_later_ground_truth() -> None:
    gt = pd.DataFrame({"video": "v", "start": [0.0, 2.0], "end": [2.0, 4.0], "label": "x"})
    det = pd.DataFrame({"video": "v", "start": [1.0], "end": [3.0], "label": "x", "score": [1.0]})
    assert match(det, gt, [0.3]).gt_detection.tolist() == [[-1, 0]]


def test_short_and_repeated_ground_truth_is_dropped() -> None:
    gt = pd.DataFrame(
        {
            "video": "v",
            "start": [0.0, 0.0005, 0.002, 5.0],
            "end": [2.0, 2.0005, 2.0, 5.0005],
            "label": "x",
        }
    )
    matches = match(gt.assign(score=1.0), gt, [0.5])
    assert len(matches.gt_video) == 2  # the second is the first again, the fourth is too short


def test_unknown_labels_are_dropped_and_unknown_videos_are_false() -> None:
    gt = pd.DataFrame({"video": ["v"], "start": [0.0], "end": [2.0], "label": ["x"]})
    det = pd.DataFrame(
        {
            "video": ["w", "v", "v"],
            "start": 0.0,
            "end": 2.0,
            "label": ["x", "y", "x"],
            "score": [0.9, 0.8, 0.7],
        }
    )
    matches = match(det, gt, [0.5])
    assert matches.row.tolist() == [0, 2] and matches.video.tolist() == [-1, 0]
    assert interpolated_ap(det, gt, [0.5]).average == 0.5


def plain_thumos(det: pd.DataFrame, gt: pd.DataFrame, label: str, threshold: float) -> float:
    events, unclear = [], gt[gt["label"] == "Ambiguous"]
    for video in sorted(set(gt["video"]) | set(det["video"])):
        mine = det[(det["video"] == video) & (det["label"] == label)].sort_values(
            "score", ascending=False, kind="stable"
        )
        rows, taken = list(mine.itertuples()), set()
        for truth in gt[(gt["video"] == video) & (gt["label"] == label)].itertuples():
            free = [k for k in range(len(rows)) if k not in taken]
            best = max(free, key=lambda k: (tiou(rows[k], truth), -k), default=None)
            if best is not None and tiou(rows[best], truth) > threshold:
                taken.add(best)
        for k, row in enumerate(rows):
            touching = any(tiou(row, one) > 0 for one in unclear[unclear["video"] == video].itertuples())
            if k in taken or not touching:
                events.append((row.score, k in taken))
    flags = np.array([hit for _, hit in sorted(events, key=lambda event: -event[0])], dtype=bool)
    precision = np.cumsum(flags) / np.arange(1, len(flags) + 1)
    return float(precision[flags].sum() / (gt["label"] == label).sum())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_thumos_ap_equals_reference(seed: int) -> None:
    det, gt = tables(seed, n_gt=18)
    unclear = np.random.default_rng(seed).random(len(gt)) < 0.15
    gt["label"] = np.where(unclear, "Ambiguous", gt["label"])
    result = thumos_ap(det, gt, THRESHOLDS)
    assert "Ambiguous" not in result.classes and result.ap_method == "thumos"
    for k, label in enumerate(result.classes):
        for t, threshold in enumerate(THRESHOLDS):
            assert result.ap[t, k] == pytest.approx(plain_thumos(det, gt, label, threshold), abs=1e-12)
    if unclear.any():
        assert thumos_match(det, gt, THRESHOLDS).ignored is not None


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_recall_equals_reference(seed: int) -> None:
    det, gt = tables(seed)
    result = recall_at_k(det, gt, THRESHOLDS, (1, 2))
    anything = average_recall(det, gt, (1, 4), THRESHOLDS)
    ordered = det.sort_values("score", ascending=False)
    for t, threshold in enumerate(THRESHOLDS):
        for r, k in enumerate(result.ks):
            for c, label in enumerate(result.classes):
                found = 0
                for _, truths in gt[gt["label"] == label].groupby("video"):
                    mine = ordered[
                        (ordered["video"] == truths["video"].iloc[0]) & (ordered["label"] == label)
                    ]
                    top = list(mine.head(k * len(truths)).itertuples())
                    found += sum(any(tiou(d, g) >= threshold for d in top) for g in truths.itertuples())
                assert result.recall[t, r, c] == pytest.approx(found / (gt["label"] == label).sum())
        for a, number in enumerate(anything.numbers):
            found = 0
            videos = gt["video"].unique()
            total = det["video"].isin(videos).sum()
            for video in videos:
                mine = ordered[ordered["video"] == video]
                top = list(
                    mine.head(min(int(len(mine) * (number * len(videos) / total)), len(mine))).itertuples()
                )
                here = gt[gt["video"] == video].itertuples()
                found += sum(any(tiou(d, g) >= threshold for d in top) for g in here)
            assert anything.recall[t, a] == pytest.approx(found / len(gt))


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.5], [float("nan")]])
def test_bad_thresholds_are_refused(thresholds: list[float]) -> None:
    det, gt = tables(0)
    with pytest.raises(InputError, match="tIoU"):
        match(det, gt, thresholds)


def test_bad_tables_are_refused() -> None:
    det, gt = tables(0)
    with pytest.raises(InputError, match="score are missing"):
        match(det.drop(columns="score"), gt, [0.5])
    with pytest.raises(InputError, match="nan in row 2"):
        match(det.assign(score=[1.0, 1.0, np.nan, *det["score"][3:]]), gt, [0.5])
    with pytest.raises(InputError, match="no ground truth"):
        match(det, gt.iloc[:0], [0.5])
    with pytest.raises(InputError, match="not among the test videos"):
        match(det, gt, [0.5], videos=["a"])
    with pytest.raises(InputError, match="video weights"):
        ap_from_matches(match(det, gt, [0.5]), np.ones(9))


def test_file_formats(tmp_path: Path) -> None:
    annotation = {"segment": [1, 2.5], "label": "run", "label_id": 7}
    database = {
        "v1": {"subset": "Test", "annotations": [annotation]},
        "v2": {"subset": "test", "annotations": []},
        "v3": {"subset": "Validation", "annotations": [annotation]},
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    gt = read_ground_truth(tmp_path / "gt.json", "TEST")
    assert gt.attrs["videos"] == ("v1", "v2") and gt["label_id"].tolist() == [7]
    result = {"results": {"v1": [{"segment": [1, 2.5], "label": "run", "score": 1}]}}
    (tmp_path / "det.json").write_text(json.dumps(result))
    (tmp_path / "det.csv").write_text("video-id,t-start,t-end,label,score\nv1,1,2.5,7,1\n")
    for name in ("det.json", "det.csv"):
        det = align_labels(read_detections(tmp_path / name), gt)
        assert interpolated_ap(det, gt, [0.5], videos=gt.attrs["videos"]).average == 1.0
    with pytest.raises(DataError, match="no detection has a label"):
        align_labels(det.assign(label="walk"), gt)


BAD_DETECTIONS = [
    ("det.json", "{", "not valid JSON at line 1"),
    ("det.json", "[]", "not an object"),
    ("det.json", '{"result": {}}', "no 'results'"),
    ("det.json", '{"results": {"v": {}}}', "not a list"),
    ("det.json", '{"results": {"v": [{"segment": [0, 1], "label": "x"}]}}', "no 'score'"),
    ("det.json", '{"results": {"v": [{"segment": [0, 1], "label": "x", "score": NaN}]}}', "score is nan"),
    ("det.json", '{"results": {"v": [{"segment": [0, 1], "label": "x", "score": "1"}]}}', "not a number"),
    (
        "det.json",
        '{"results": {"v": [{"segment": [3, 1], "label": "x", "score": 1}]}}',
        "ends before it starts",
    ),
    (
        "det.json",
        '{"results": {"v": [{"segment": [3], "label": "x", "score": 1}]}}',
        "segment of detection 0",
    ),
    ("det.json", '{"results": {"v": [{"segment": [0, 1], "label": null, "score": 1}]}}', "label of"),
    ("det.csv", "", "not a readable table"),
    ("det.csv", "video,start,end,label\nv,0,1,x\n", "column score is missing"),
    ("det.csv", "video,start,end,label,score\nv,0,1,x,\n", "score is empty in line 2"),
    ("det.csv", "video,start,end,label,score\nv,0,one,x,1\n", "end is one in line 2"),
    ("det.csv", "video,start,end,label,score\nv,5,1,x,1\n", "ends before it starts"),
    ("det.csv", "video,start,end,label,score\nv,0,inf,x,1\n", "end is inf"),
]


@pytest.mark.parametrize(("name", "text", "said"), BAD_DETECTIONS)
def test_malformed_detections_give_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_detections(path)
    line = str(caught.value)
    assert said in line and str(path) in line and "\n" not in line


BAD_TRUTHS = [
    ("{}", "no 'database'"),
    ('{"database": []}', "not an object that maps videos"),
    ('{"database": {"v": {"subset": "val"}, "w": {"subset": "train"}}}', "train, val"),
    ('{"database": {"v": {"subset": "test", "annotations": [{"label": "x"}]}}}', "no 'segment'"),
    (
        '{"database": {"v": {"subset": "test", "annotations": [{"label": "x", "segment": [2, 1]}]}}}',
        "ends before it starts",
    ),
]


@pytest.mark.parametrize(("text", "said"), BAD_TRUTHS)
def test_malformed_ground_truth_gives_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gt.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_ground_truth(path, "test")
    line = str(caught.value)
    assert said in line and str(path) in line and "\n" not in line


def test_reversed_annotations_can_be_left_out(tmp_path: Path) -> None:
    annotations = [{"label": "x", "segment": [2, 1]}, {"label": "x", "segment": [1, 2]}]
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"v": {"annotations": annotations}}}))
    gt = read_ground_truth(tmp_path / "gt.json", drop_reversed=True)
    assert len(gt) == 1 and gt.attrs["reversed"] == 1


def test_missing_file(tmp_path: Path) -> None:
    for reader in (read_detections, read_ground_truth):
        with pytest.raises(DataError, match="no such file"):
            reader(tmp_path / "none.json")
    with pytest.raises(DataError, match="no such file"):
        read_detections(tmp_path / "none.csv")
