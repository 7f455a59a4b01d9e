"""Classification of errors, gains in mAP and sensitivity to ground truths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_bench.errors import InputError
from tal_bench.evaluation.diagnosis import (
    CATEGORIES,
    ERRORS,
    diagnose,
    false_positive_profile,
    gains,
    video_ap,
)
from tal_bench.evaluation.mean_ap import interpolated_ap, match
from tal_bench.evaluation.sensitivity import (
    COVERAGE,
    INSTANCES,
    LENGTH,
    bin_truths,
    characteristics,
    group_table,
    missed,
    normalised_ap,
)

LEVELS = [0.3, 0.5, 0.7]
DETECTION = ["video", "start", "end", "label", "score"]


def table(*rows: tuple[object, ...]) -> pd.DataFrame:
    columns = DETECTION if rows and len(rows[0]) == 5 else DETECTION[:4]
    return pd.DataFrame(rows, columns=columns).astype({"start": float, "end": float})


TRUTH = table(("v", 0, 10, "jump"), ("v", 20, 30, "run"), ("w", 0, 10, "jump"))


@pytest.mark.parametrize(
    ("detection", "level", "category"),
    [
        (("v", 0, 10, "jump"), 0.5, "true positive"),
        (("v", 1, 10, "jump"), 0.5, "true positive"),
        (("v", 0, 10, "run"), 0.5, "wrong label"),
        (("v", 4, 14, "jump"), 0.5, "localization"),  # tIoU 6 / 14
        (("v", 4, 14, "jump"), 0.3, "true positive"),
        (("v", 4, 14, "run"), 0.5, "confusion"),
        (("v", 4, 14, "run"), 0.3, "wrong label"),
        (("v", 9, 19, "jump"), 0.5, "background"),  # tIoU 1 / 19
        (("v", 40, 50, "run"), 0.5, "background"),
        (("w", 20, 30, "run"), 0.5, "background"),  # there is one, but in another video
        (("elsewhere", 0, 10, "jump"), 0.5, "background"),
        (("v", 0, 1, "jump"), 0.5, "localization"),  # tIoU exactly 0.1
    ],
)
def test_category_of_single_detections(detection: tuple[object, ...], level: float, category: str) -> None:
    found = diagnose(table((*detection, 0.9)), TRUTH, [level])
    assert CATEGORIES[found.category[0, 0]] == category


def test_second_detection_of_a_truth_is_double() -> None:
    twice = table(("v", 0, 10, "jump", 0.5), ("v", 1, 10, "jump", 0.9), ("v", 0, 4, "jump", 0.1))
    found = diagnose(twice, TRUTH, [0.5])
    assert [CATEGORIES[k] for k in found.category[0]] == ["true positive", "double detection", "localization"]
    assert found.matches.row.tolist() == [1, 0, 2]


def test_own_class_takes_precedence_at_equal_tiou() -> None:
    both = table(("v", 0, 10, "run"), ("v", 0, 10, "jump"))
    twice = table(("v", 0, 10, "jump", 0.9), ("v", 0, 10, "jump", 0.8), ("v", 5, 15, "run", 0.7))
    names = [CATEGORIES[k] for k in diagnose(twice, both, [0.5]).category[0]]
    assert names == ["true positive", "double detection", "localization"]


def test_labels_without_ground_truth_are_dropped() -> None:
    found = diagnose(table(("v", 0, 10, "fly", 0.9), ("v", 0, 10, "jump", 0.8)), TRUTH, LEVELS)
    assert found.counts.sum(axis=1).tolist() == [1, 1, 1]


@st.composite
def cases(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A few videos of short integer segments, so that overlaps, ties and repeats are common."""
    segment = st.tuples(st.integers(0, 12), st.integers(1, 6))
    label = st.sampled_from("ab")
    truths = draw(st.lists(st.tuples(st.sampled_from("vw"), segment, label), min_size=1, max_size=8))
    found = draw(st.lists(st.tuples(st.sampled_from("vwx"), segment, label, st.integers(0, 6)), max_size=25))
    truth = table(*((v, s, s + n, k) for v, (s, n), k in truths))
    if not found:
        return pd.DataFrame(columns=DETECTION), truth
    return table(*((v, s, s + n, k, p / 10) for v, (s, n), k, p in found)), truth


def named(row: pd.Series, truth: pd.DataFrame, level: float) -> str:
    """Return the category of a false positive, computed with plain loops."""
    here = truth[truth["video"] == row["video"]]
    shared = (np.minimum(here["end"], row["end"]) - np.maximum(here["start"], row["start"])).clip(lower=0)
    tiou = shared / ((here["end"] - here["start"]) + (row["end"] - row["start"]) - shared)
    nearest = max(tiou, default=0.0)
    if nearest < 0.1:
        return "background"
    same = row["label"] in set(here["label"][tiou == nearest])
    if nearest >= level:
        return "double detection" if same else "wrong label"
    return "localization" if same else "confusion"


@settings(max_examples=25, deadline=None)
@given(cases())
def test_categories_partition_the_detections(case: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    detections, truth = case
    found = diagnose(detections, truth, LEVELS)
    evaluated = detections["label"].isin(truth["label"]).sum()
    assert found.counts.sum(axis=1).tolist() == [evaluated] * len(LEVELS)
    judged = match(detections, truth, LEVELS)
    assert (found.counts[:, 0] == judged.true_positive.sum(axis=1)).all()
    assert (found.counts[:, 0] == (judged.gt_detection >= 0).sum(axis=1)).all()
    for level, threshold in enumerate(LEVELS):
        for place, row in enumerate(found.matches.row):
            if not found.matches.true_positive[level, place]:
                expected = named(detections.iloc[row], found.truth, threshold)
                assert CATEGORIES[found.category[level, place]] == expected


@settings(max_examples=12, deadline=None)
@given(cases())
def test_gains_add_up_to_one(case: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    detections, truth = case
    levels = [0.3, 0.6]
    found = diagnose(detections, truth, levels)
    result = gains(found)
    assert result.average_map == pytest.approx(interpolated_ap(detections, truth, levels).average)
    assert result.average_map + result.all_errors + result.missed == pytest.approx(1.0)
    assert all(gain >= -1e-12 for gain in result.errors.values())

    def recomputed(drop: list[int], add_missed: bool = False) -> float:
        """Return the average mAP without the detections of some categories, evaluated at each threshold."""
        values = []
        for level, threshold in enumerate(levels):
            dropped = found.matches.row[np.isin(found.category[level], drop)]
            rest = detections.drop(index=detections.index[dropped])
            if add_missed:
                lost = found.truth[found.matches.gt_detection[level] < 0].assign(score=2.0)
                rest = pd.concat([rest, lost]) if len(rest) else lost
            values.append(interpolated_ap(rest, truth, [threshold]).average)
        return float(np.mean(values))

    for kind, gain in enumerate(result.errors.values(), start=1):
        assert recomputed([kind]) - result.average_map == pytest.approx(gain)
    every = list(range(1, 6))
    assert recomputed(every) - result.average_map == pytest.approx(result.all_errors)
    assert recomputed(every, add_missed=True) == pytest.approx(1.0)


def random_case(seed: int = 0, videos: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return detections close to the ground truth, of other classes, or at random positions."""
    rng = np.random.default_rng(seed)
    size = 8 * videos
    start = rng.uniform(0, 100, size)
    truth = pd.DataFrame(
        {
            "video": rng.integers(0, videos, size),
            "start": start,
            "end": start + rng.lognormal(1.2, 0.6, size),
            "label": rng.choice(["a", "b", "c"], size, p=[0.6, 0.3, 0.1]),
        }
    )
    found = truth.sample(4 * size, replace=True, random_state=seed).reset_index(drop=True)
    blur = rng.normal(0, 0.3, (2, len(found))) * (found["end"] - found["start"]).to_numpy()
    found["start"], found["end"] = found["start"] + blur[0], found["end"] + blur[1] + 0.01
    found["end"] = np.maximum(found["start"] + 0.1, found["end"])
    found["label"] = np.where(rng.random(len(found)) < 0.3, rng.choice(["a", "b", "c"]), found["label"])
    return found.assign(score=rng.random(len(found))), truth


def test_profile_slices_are_per_class() -> None:
    detections, truth = random_case()
    found = diagnose(detections, truth, LEVELS)
    slices = false_positive_profile(found, slices=3)
    for k in range(3):
        expected = np.zeros((len(LEVELS), len(CATEGORIES)), dtype=int)
        for label, count in truth["label"].value_counts().items():
            of_class = np.flatnonzero(found.matches.label == found.matches.classes.index(label))
            for place in of_class[k * count : (k + 1) * count]:
                expected[range(len(LEVELS)), found.category[:, place]] += 1
        assert (slices[k] == expected).all()
    assert (false_positive_profile(found, slices=10_000).sum(axis=0) == found.counts).all()


def test_normalised_ap_equals_ap_for_equal_class_sizes() -> None:
    detections, truth = random_case()
    truth = truth.groupby("label").head(8)
    matches = match(detections, truth, LEVELS)
    every = np.ones(len(truth), dtype=bool)
    ap = interpolated_ap(detections, truth, LEVELS).ap
    assert normalised_ap(matches, [every])[0] == pytest.approx(ap)


def slow_normalised_ap(matches, group: np.ndarray, level: int, k: int) -> float:  # type: ignore[no-untyped-def]
    """Compute precision R·N / (R·N + FP) with plain loops."""
    usual = len(matches.gt_label) / len(matches.classes)
    total = int((group & (matches.gt_label == k)).sum())
    ours = set(matches.gt_detection[level, group].tolist())
    points, right, false = [], 0, 0
    for place in np.flatnonzero(matches.label == k):
        false += not matches.true_positive[level, place]
        if place in ours:
            right += 1
            points.append(right / total * usual / (right / total * usual + false))
    return sum(max(points[n:]) for n in range(len(points))) / total


def test_normalised_ap_within_groups() -> None:
    detections, truth = random_case(1)
    matches = match(detections, truth, LEVELS)
    length = (truth["end"] - truth["start"]).to_numpy()
    groups = [length > np.median(length), length <= np.median(length)]
    ap = normalised_ap(matches, groups)
    for m, group in enumerate(groups):
        for level in range(len(LEVELS)):
            for k in range(3):
                assert ap[m, level, k] == pytest.approx(slow_normalised_ap(matches, group, level, k))
    assert np.isnan(normalised_ap(matches, [matches.gt_label == 0])[0, :, 1]).all()


def test_missed() -> None:
    detections, truth = random_case(2)
    found = diagnose(detections, truth, LEVELS)
    lost = missed(found.matches)
    assert lost.sum(axis=1).tolist() == (len(truth) - found.counts[:, 0]).tolist()
    assert (missed(found.matches, 0.5) >= lost).all() and missed(found.matches, 0.5).sum() > lost.sum()
    assert missed(found.matches, 1.0).all()
    # 100 · missed of the gains weighs classes alike; with one class it is the plain share.
    one = diagnose(detections.assign(label="a"), truth.assign(label="a"), LEVELS)
    assert gains(one).missed == pytest.approx(missed(one.matches).mean())


def test_auto_bins() -> None:
    detections, truth = random_case(3)
    values = characteristics(truth, dict.fromkeys(range(12), 104.0))
    assert values[COVERAGE] == pytest.approx((truth["end"] - truth["start"]) / 104.0)
    same = truth.groupby(["video", "label"])["start"].transform("size")
    assert (values[INSTANCES] == same).all()
    by_name = {one.characteristic: one for one in bin_truths(values)}
    assert by_name[COVERAGE].source == "thumos14" and by_name[LENGTH].source == "quantiles"
    sizes = np.bincount(by_name[LENGTH].index)
    assert len(sizes) == 5 and sizes.max() - sizes.min() <= 2
    fixed = {one.characteristic: one for one in bin_truths(values, "activitynet")}
    assert fixed[LENGTH].names[0] == "XS (0–30 s)" and (fixed[LENGTH].index == 0).all()
    assert fixed[INSTANCES].names == ("XS (1)", "S (2–4)", "M (5–8)", "L (> 8)")
    assert [fixed[INSTANCES].index[same == n].max() for n in (1, 2, 4, 5)] == [0, 1, 1, 2]
    lines = group_table(diagnose(detections, truth, LEVELS), list(fixed.values()))
    assert lines["truths"].iloc[0] == len(truth)
    sums = lines.iloc[1:].groupby("characteristic")["truths"].sum()
    assert (sums == len(truth)).all()
    assert lines.loc[lines["truths"] == 0, ["missed", "map_n"]].isna().all().all()
    with pytest.raises(InputError, match="'deciles'"):
        bin_truths(values, "deciles")  # type: ignore[arg-type]


def test_bins_of_few_values_and_unknown_durations() -> None:
    values = {INSTANCES: np.array([1.0, 1, 1, 2, 2, 3]), COVERAGE: np.full(6, np.nan)}
    (only,) = bin_truths(values, "quantiles")
    assert only.names == ("XS (1)", "S (2)", "M (> 2)") and only.index.tolist() == [0, 0, 0, 1, 1, 2]
    (equal,) = bin_truths({INSTANCES: np.ones(4)})
    assert equal.names == ("XS (> 0)",) and (equal.index == 0).all()
    (some,) = bin_truths({COVERAGE: np.array([0.1, np.nan])}, "activitynet")
    assert some.index.tolist() == [0, -1]


def test_video_ap_ranks_all_classes_together() -> None:
    detections, truth = random_case(4)
    matches = match(detections, truth, LEVELS)
    ap = video_ap(matches)
    assert ap.shape == (3, 12)
    own = matches.video == 5
    flags = matches.true_positive[:, own][:, np.argsort(-matches.score[own], kind="stable")]
    precision = np.cumsum(flags, axis=1) / np.arange(1, flags.shape[1] + 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    assert ap[:, 5] == pytest.approx((best * flags).sum(axis=1) / (truth["video"] == 5).sum())
    stray = replace(matches, video=np.where(matches.video == 3, -1, matches.video))
    assert np.isnan(video_ap(match(detections, truth, LEVELS, videos=range(13)))[:, 12]).all()
    assert (video_ap(stray)[:, 5] == ap[:, 5]).all()


def test_order_of_categories() -> None:
    assert ERRORS == ("double detection", "wrong label", "localization", "confusion", "background")
