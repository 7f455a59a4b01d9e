"""Proposals and pruning depend only on the seed, the row and completed generations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_parts import result_of, run_spec

from tal_bench.config import Settings
from tal_bench.distill.variants import variants
from tal_bench.results.records import EpochRecord
from tal_bench.tuning.pruning import judge
from tal_bench.tuning.search import Trial, best, propose

BOTH = variants.get("both")
SPACE, DEFAULTS = BOTH.search_space(), BOTH.defaults()


def ask(past: list[Trial], count: int = 4, seed: int = 0, row: str = "both") -> list[Settings]:
    return propose(past, SPACE, [DEFAULTS], count=count, seed=seed, row=row)


def tried(settings_: Settings, score: float, status: str = "finished") -> Trial:
    return Trial(settings_, result_of(run_spec(), status=status, score=score))


def generation(scores: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)) -> list[Trial]:
    return [tried(s, score) for s, score in zip(ask([]), scores, strict=True)]


def test_the_first_trial_has_the_defaults() -> None:
    first = ask([])
    assert first[0] == pytest.approx(DEFAULTS)
    assert all(s != first[0] for s in first[1:])


def test_the_same_past_gives_the_same_proposals() -> None:
    assert ask([]) == ask([])
    assert ask(generation()) == ask(generation())


def test_proposals_depend_on_seed_row_and_past() -> None:
    past = generation()
    others = [ask(past, seed=1), ask(past, row="self"), ask(generation((4.0, 3.0, 2.0, 1.0)))]
    assert all(ask(past) != other for other in others)
    assert ask(past)[0] not in [t.settings for t in past]


def test_a_smaller_generation_is_the_beginning_of_a_larger_one() -> None:
    assert ask([], count=4)[:2] == ask([], count=2)


@given(st.integers(0, 1000), st.integers(0, 2))
@settings(max_examples=10, deadline=None)
def test_proposals_lie_in_the_space(seed: int, generations: int) -> None:
    past: list[Trial] = []
    for _ in range(generations):
        past += [tried(s, float(i)) for i, s in enumerate(ask(past, seed=seed))]
    for proposed in ask(past, seed=seed):
        assert proposed.keys() == SPACE.keys()
        for name, value in proposed.items():
            assert SPACE[name].low <= value <= SPACE[name].high


def test_failed_and_pruned_trials_are_accepted() -> None:
    past = [
        tried(s, 1.0, status)
        for s, status in zip(ask([]), ("failed", "pruned", "finished", "failed"), strict=True)
    ]
    assert len(ask(past)) == 4


def test_best_is_the_highest_and_of_equals_the_earliest() -> None:
    a, b, c, d = ask([])
    trials = [tried(a, 1.0), tried(b, 5.0), tried(c, 5.0), tried(d, 9.0, "failed")]
    assert best(trials) is trials[1]
    assert best([tried(d, 9.0, "pruned")]) is None
    assert best([]) is None


def test_pruning_compares_with_the_given_curves_only() -> None:
    curves = [{2: 10.0, 6: 20.0, 10: 30.0}, {2: 12.0, 6: 22.0, 10: 32.0}, {2: 14.0, 6: 24.0, 10: 34.0}]
    bad = judge(curves, 10)
    assert not bad(2, 0.0), "not pruned during warm-up"
    assert bad(6, 1.0)
    good = judge(curves, 10)
    assert not good(6, 23.0)
    assert not good(10, 1.0), "not pruned in the last epoch"
    assert not judge(curves[:2], 10)(6, 0.0), "too few completed trials"


def test_a_trials_curve_contains_evaluated_epochs_only() -> None:
    result = result_of(run_spec(), score=3.0).model_copy(
        update={
            "history": (
                EpochRecord(epoch=1, losses={}, validation_map=2.0),
                EpochRecord(epoch=2, losses={}),
                EpochRecord(epoch=3, losses={}, validation_map=3.0),
            )
        }
    )
    assert Trial({}, result).curve == {1: 2.0, 3: 3.0}


def test_proposing_writes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask(generation())
    assert not list(tmp_path.iterdir())
