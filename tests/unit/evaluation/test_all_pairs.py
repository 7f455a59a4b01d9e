"""All pairs of rows: simultaneous intervals, groups, and resolution."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from tal_bench.errors import InputError
from tal_bench.evaluation.all_pairs import LARGEST, Comparison, compare_all_pairs, resolution
from tal_bench.evaluation.significance import RowSample, contrast, interval, video_draws

VIDEOS, DRAWS = 60, 300
SLOW = pytest.mark.skipif(not os.environ.get("TAL_BENCH_SLOW"), reason="minutes; set TAL_BENCH_SLOW=1")
WEIGHTS = video_draws(VIDEOS, DRAWS, 0) / VIDEOS


def normal_rows(
    rng: np.random.Generator,
    means: tuple[float, ...],
    *,
    seeds: int = 8,
    row: float = 0.5,
    seed: float = 0.1,
    both: float = 0.5,
) -> dict[str, RowSample]:
    """Draw rows of normal scores on one sample of videos.

    Args:
        rng: Random generator.
        means: True mean of each row.
        seeds: Number of seeds.
        row: Standard deviation of a row's effect on a video.
        seed: Standard deviation of a seed's effect.
        both: Standard deviation of a seed's effect on a video.
    """
    shared = rng.normal(0, 1, VIDEOS)
    found = {}
    for k, mean in enumerate(means):
        score = mean + shared + rng.normal(0, row, VIDEOS) + rng.normal(0, seed, (seeds, 1))
        score = score + rng.normal(0, both, (seeds, VIDEOS))
        found[f"row {k}"] = RowSample(tuple(range(VIDEOS)), score.mean(axis=1), score @ WEIGHTS.T, (DRAWS, 0))
    return found


def coverage(
    repetitions: int, rows: int, seeds: int, row: float, seed: float, both: float
) -> tuple[float, float]:
    """Return how often all simultaneous intervals, and each single one, hold the true differences 0."""
    rng = np.random.default_rng([rows, seeds])
    simultaneous, single = [], []
    for repetition in range(repetitions):
        samples = normal_rows(rng, (0.0,) * rows, seeds=seeds, row=row, seed=seed, both=both)
        pairs = compare_all_pairs(samples, random_seed=repetition).pairs.values()
        simultaneous.append(not any(pair.simultaneous.excludes_zero for pair in pairs))
        single.append(np.mean([not pair.single.excludes_zero for pair in pairs]))
    return float(np.mean(simultaneous)), float(np.mean(single))


@SLOW
@pytest.mark.parametrize("rows", [4, 8])
@pytest.mark.parametrize(("row", "seed", "both"), [(1, 0, 1), (1, 0.1, 1), (0.5, 0.2, 1), (0.3, 0.4, 0.3)])
def test_coverage_with_eight_seeds(rows: int, row: float, seed: float, both: float) -> None:
    simultaneous, single = coverage(500, rows, 8, row, seed, both)
    print(f"{rows} rows, {row}, {seed}, {both}: simultaneous {simultaneous:.3f}, single {single:.3f}")
    assert 0.925 <= simultaneous <= 0.985
    assert 0.93 <= single <= 0.975


def test_coverage_of_a_few_simulations() -> None:
    simultaneous, single = coverage(60, 5, 8, 0.5, 0.2, 0.5)
    # 60 studies of which 95 % hold have 52 or more, but for one run in a hundred; single intervals
    # would all hold in about 60 % of these studies.
    assert simultaneous >= 52 / 60
    assert single >= 0.9


def test_intervals_of_two_rows_are_single_intervals() -> None:
    rows = normal_rows(np.random.default_rng(1), (0.0, 0.3))
    comparison = compare_all_pairs(rows)
    (pair,) = comparison.pairs.values()
    assert pair.single == pair.simultaneous == contrast(list(rows.values()), [1, -1])
    assert comparison.pair_level == 0.95


def test_simultaneous_intervals_contain_single_ones() -> None:
    comparison = compare_all_pairs(normal_rows(np.random.default_rng(2), (0.0, 0.1, 0.5, 1.0)))
    assert list(comparison.pairs)[:3] == [("row 0", "row 1"), ("row 0", "row 2"), ("row 0", "row 3")]
    assert 0.95 < comparison.pair_level < 1 - 0.05 / 6 + 0.002  # narrower than Bonferroni's
    for pair in comparison.pairs.values():
        assert pair.simultaneous.low < pair.single.low < pair.single.high < pair.simultaneous.high
        assert pair.simultaneous.estimate == pair.single.estimate
        assert (pair.p_value < 0.05) == pair.simultaneous.excludes_zero
    assert comparison.clear("row 3", "row 0") and comparison.clear("row 0", "row 3")
    assert not comparison.clear("row 0", "row 1")


def test_groups_are_runs_of_rows_that_do_not_differ() -> None:
    comparison = compare_all_pairs(normal_rows(np.random.default_rng(3), (0.0, 3.0, 0.0, 3.0, 9.0)))
    groups = [set(group) for group in comparison.groups()]
    assert groups == [{"row 4"}, {"row 1", "row 3"}, {"row 0", "row 2"}]


def test_a_row_between_two_groups_is_in_both() -> None:
    comparison = compare_all_pairs(normal_rows(np.random.default_rng(4), (0.0, 1.0)))
    pair = next(iter(comparison.pairs.values()))
    wide, narrow = (
        replace(pair, simultaneous=replace(pair.simultaneous, low=low, high=high))
        for low, high in ((-1.0, 1.0), (0.5, 1.5))
    )
    pairs = {("a", "b"): wide, ("a", "c"): narrow, ("b", "c"): wide}
    comparison = Comparison(pairs, 0.95, 0.98, {"a": 3.0, "b": 2.0, "c": 1.0})
    assert comparison.groups() == [("a", "b"), ("b", "c")]


def test_rows_with_other_numbers_of_seeds_are_compared_on_shared_ones() -> None:
    rows = normal_rows(np.random.default_rng(5), (0.0, 0.0, 0.0))
    rows["row 2"] = rows["row 2"].select_seeds(range(3))
    comparison = compare_all_pairs(rows)
    assert comparison.pairs["row 0", "row 1"].single.seeds == 8
    assert comparison.pairs["row 0", "row 2"].single.seeds == 3


def test_one_row_is_refused() -> None:
    rows = normal_rows(np.random.default_rng(5), (0.0,))
    with pytest.raises(InputError, match="at least two"):
        compare_all_pairs(rows)


def test_a_row_equals_itself() -> None:
    (sample,) = normal_rows(np.random.default_rng(6), (0.0,)).values()
    comparison = compare_all_pairs({"a": sample, "b": sample, "c": sample})
    assert comparison.groups() == [("a", "b", "c")]
    assert {pair.p_value for pair in comparison.pairs.values()} == {1.0}


def test_a_difference_without_any_spread_is_evidence() -> None:
    """The same difference in every seed and draw has no standard error, and is not chance."""
    (sample,) = normal_rows(np.random.default_rng(6), (0.0,)).values()
    higher = replace(sample, average=sample.average + 2.0, bootstrap=sample.bootstrap + 2.0)
    (pair,) = compare_all_pairs({"a": sample, "b": higher}).pairs.values()
    assert pair.p_value < 0.001


@pytest.mark.parametrize(("row", "seed", "both"), [(1.0, 0.0, 0.0), (0.3, 0.3, 0.3), (0.0, 0.5, 0.2)])
def test_resolution_halves_with_the_numbers_it_gives(row: float, seed: float, both: float) -> None:
    """Simulated studies with the numbers that `resolution` gives have intervals of half the width."""
    rng = np.random.default_rng(7)
    rows = list(normal_rows(rng, (0.0, 0.0), row=row, seed=seed, both=both).values())
    found = resolution(contrast(rows, [1, -1]))
    assert found.seeds == 8 and found.videos == VIDEOS and found.difference > 0
    widths = []
    if found.seeds_to_halve is not None and found.seeds_to_halve < 1000:
        more = list(
            normal_rows(rng, (0.0, 0.0), seeds=found.seeds_to_halve, row=row, seed=seed, both=both).values()
        )
        measured = contrast(more, [1, -1])
        widths.append((measured.high - measured.low) / 2)
    assert all(0.3 * found.difference < width < 0.8 * found.difference for width in widths)
    if seed == 0 and both == 0:  # every seed gives the same difference
        assert found.seeds_to_halve is None
        assert found.videos_to_halve is not None and 225 <= found.videos_to_halve <= 245
    if row == 0:
        assert found.seeds_to_halve is not None and found.seeds_to_halve <= 4 * 8


def test_resolution_keeps_the_width_of_the_interval() -> None:
    rng = np.random.default_rng(8)
    measured = interval(rng.normal(0, 1, 5), rng.normal(0, 1, (5, 200)), n_videos=40)
    found = resolution(measured)
    assert found.difference == pytest.approx((measured.high - measured.low) / 2)
    assert found.videos_to_halve is None or 40 < found.videos_to_halve <= LARGEST


def test_rows_with_different_seeds_are_paired_by_seed() -> None:
    rows = normal_rows(np.random.default_rng(3), (0.0, 1.0, 2.0), seeds=4, seed=2.0)
    a, b, c = rows
    part = {**rows, a: rows[a].select_seeds([1, 3]), c: rows[c].select_seeds([0])}
    seeds = {a: [1, 3], b: [2, 3, 0, 1], c: [0]}
    found = compare_all_pairs({**part, b: rows[b].select_seeds(seeds[b])}, seeds=seeds).pairs
    expected = contrast([part[a], rows[b].select_seeds([1, 3])], [1.0, -1.0])
    assert found[a, b].single.estimate == pytest.approx(expected.estimate, rel=1e-12)
    assert found[a, b].single.low == pytest.approx(expected.low, rel=1e-12)
    assert (found[b, c].single.seeds, found[a, c].single.seeds) == (1, 1), "a and c have no common seed"
