"""Mean ranks over datasets with their intervals, and counts of wins, ties and losses."""

from __future__ import annotations

import numpy as np
import pytest

from tal_bench.errors import InputError
from tal_bench.evaluation.all_pairs import compare_all_pairs
from tal_bench.evaluation.ranks import Outcomes, mean_ranks, outcomes
from tal_bench.evaluation.significance import RowSample

DRAWS = 1000


def sample(
    mean: float, *, seeds: int = 3, spread: float = 0.0, noise: float = 0.01, key: int = 0
) -> RowSample:
    """Return a row whose seeds differ by `spread` and whose draws over videos differ by `noise`."""
    random = np.random.default_rng([key, round(1e4 * mean)])
    average = mean + spread * np.linspace(-1, 1, seeds)
    bootstrap = average[:, None] + noise * random.standard_normal((1, DRAWS))
    return RowSample(tuple(range(50)), average, bootstrap, (DRAWS, 0))


def test_ranks_are_means_over_datasets() -> None:
    first = {"a": sample(0.5), "b": sample(0.4), "c": sample(0.3)}
    second = {"a": sample(0.2), "b": sample(0.6), "c": sample(0.1)}
    ranks = mean_ranks([first, second])
    assert list(ranks) == ["b", "a", "c"] or list(ranks) == ["a", "b", "c"]
    assert {name: rank.ranks for name, rank in ranks.items()} == {"a": (1, 2), "b": (2, 1), "c": (3, 3)}
    assert [ranks[name].mean for name in "abc"] == [1.5, 1.5, 3.0]
    assert all(rank.low == rank.mean == rank.high for rank in ranks.values()), "no draw changes the order"


def test_equal_rows_share_their_rank() -> None:
    same = sample(0.4)
    ranks = mean_ranks([{"a": same, "b": same, "c": sample(0.9)}])
    assert {name: rank.mean for name, rank in ranks.items()} == {"c": 1.0, "a": 2.5, "b": 2.5}


def test_close_rows_have_wide_intervals() -> None:
    ranks = mean_ranks([{"a": sample(0.40, key=1), "b": sample(0.401, key=2), "c": sample(0.9)}])
    assert (ranks["a"].low, ranks["a"].high) == (2.0, 3.0)
    assert (ranks["c"].low, ranks["c"].high) == (1.0, 1.0)


def test_the_variance_of_seeds_is_in_the_interval() -> None:
    far = {"a": sample(0.40, spread=0.1, noise=0.001), "b": sample(0.45, noise=0.001)}
    assert mean_ranks([far])["a"].low == 1.0, "some draws of three seeds take the best one thrice"
    assert mean_ranks([{**far, "a": sample(0.40, noise=0.001)}])["a"].low == 2.0


def test_draws_of_datasets_are_independent() -> None:
    """Two datasets with equal draws narrow the interval as two datasets do, not as one that is used twice."""
    rows = {"a": sample(0.40, key=1, noise=0.02), "b": sample(0.41, key=2, noise=0.02)}
    rows |= {name: sample(0.40 + 0.002 * k, key=k + 3, noise=0.02) for k, name in enumerate("cdefgh")}
    one, two = (mean_ranks([rows] * count) for count in (1, 2))
    ratio = np.mean([(two[n].high - two[n].low) / (one[n].high - one[n].low) for n in rows])
    assert 0.6 < ratio < 0.85


def test_only_rows_of_all_datasets_are_ranked() -> None:
    ranks = mean_ranks(
        [{"a": sample(0.5), "b": sample(0.4), "x": sample(0.9)}, {"b": sample(0.3), "a": sample(0.1)}]
    )
    assert set(ranks) == {"a", "b"}
    assert ranks["a"].ranks == (1.0, 2.0), "x is not counted"
    assert mean_ranks([{"a": sample(0.5)}, {"a": sample(0.4)}]) == {}


def test_malformed_input_is_refused() -> None:
    with pytest.raises(InputError, match="no datasets"):
        mean_ranks([])
    short = RowSample((0, 1), np.array([0.1]), np.full((1, 10), 0.1), (10, 0))
    with pytest.raises(InputError, match=r"\[10, 1000\] bootstrap draws"):
        mean_ranks([{"a": short, "b": sample(0.1)}])


def test_outcomes_count_datasets() -> None:
    clear = compare_all_pairs({"a": sample(0.5, key=1), "b": sample(0.2, key=2)})
    unclear = compare_all_pairs({"b": sample(0.301, key=1), "a": sample(0.3, key=2)})
    other = compare_all_pairs({"a": sample(0.5, key=1), "c": sample(0.2, key=2)})
    found = outcomes([clear, unclear, other])
    assert found["a", "b"] == Outcomes(1, 1, 0)
    assert found["b", "a"] == Outcomes(0, 1, 1)
    assert found["c", "a"] == Outcomes(0, 0, 1)
    assert ("b", "c") not in found
    assert Outcomes(1, 2, 3) + Outcomes(1, 0, 1) == Outcomes(2, 2, 4)
