"""Samplers, pruners and fronts: the same past gives the same proposals, whatever proposes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_study import write_fake_study
from hypothesis import given, settings
from hypothesis import strategies as st
from study_parts import FakeExecutor, RecordingCallback, protocol, result_of, run_spec, run_specs

from tal_bench.config import Budget, Range, RowSpec, StudySpec, parse_spec
from tal_bench.errors import InputError
from tal_bench.results.records import RunResult, SearchRecord
from tal_bench.studies.earlier_study import warm_start
from tal_bench.studies.plan import StudentRow, make_plan
from tal_bench.studies.run import Job
from tal_bench.studies.scheduler import run_rows
from tal_bench.tuning.pruning import pruning_callback
from tal_bench.tuning.search import Trial, Tuning, converged, front, propose

SPACE = {
    "lr": Range(low=0.5, high=2.0),
    "student/width": Range(low=16, high=64, log=False, step=16),
    "temperature": (1.0, 2.0, 4.0),
}
DEFAULTS = {"lr": 1.0, "student/width": 48.0, "temperature": 2.0}
TWO = ("map", "gmacs")


def student_rows(spec: StudySpec) -> tuple[StudentRow, ...]:
    return make_plan(spec, run_specs()).student_rows


def trial(settings_: dict[str, float], score: float, gmacs: float = 1.0, status: str = "finished") -> Trial:
    return Trial(settings_, result_of(run_spec(), status=status, score=score), {"gmacs": gmacs})


def searched(tuning: Tuning, generations: int, space: Any = SPACE) -> list[Trial]:
    past: list[Trial] = []
    for number in range(generations):
        new = propose(past, space, [DEFAULTS], count=4, seed=3, row="both", tuning=tuning)
        past += [trial(s, score=s["lr"] * (1 + number), gmacs=s.get("student/width", 1.0)) for s in new]
    return past


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning(sampler="random"),
        Tuning(sampler="grid"),
        Tuning(sampler="nsga2", objective=TWO),
        Tuning(sampler="tpe", objective=TWO),
    ],
    ids=lambda t: f"{t.sampler}-{len(t.objective)}",
)
def test_samplers_are_deterministic_and_stay_in_the_space(tuning: Tuning) -> None:
    once, again = searched(tuning, 4), searched(tuning, 4)
    assert [t.settings for t in once] == [t.settings for t in again]
    for one in once:
        assert SPACE["lr"].low <= one.settings["lr"] <= SPACE["lr"].high
        assert one.settings["student/width"] in (16, 32, 48, 64)
        assert one.settings["temperature"] in (1, 2, 4)
    assert (once[0].settings == DEFAULTS) == (tuning.sampler != "grid")


def test_a_grid_tries_every_point_once() -> None:
    space = {"temperature": (1.0, 2.0, 4.0), "student/width": Range(low=16, high=64, log=False, step=16)}
    past: list[Trial] = []
    while len(past) < 12:
        new = propose(past, space, [], count=4, seed=0, row="x", tuning=Tuning(sampler="grid"))
        past += [trial(s, 1.0) for s in new]
    assert len({tuple(sorted(t.settings.items())) for t in past}) == 12


def test_an_earlier_study_goes_before_the_defaults() -> None:
    found = {"lr": 1.7, "student/width": 40.0, "temperature": 3.0}  # beside the space, and kept as it is
    for sampler in ("tpe", "random", "nsga2"):
        tuning = Tuning(sampler=sampler, objective=TWO)  # type: ignore[arg-type]
        new = propose([], SPACE, [found, DEFAULTS], count=4, seed=0, row="x", tuning=tuning)
        assert new[:2] == [found, DEFAULTS]
        past = [trial(s, 1.0) for s in new]
        assert len(propose(past, SPACE, [found, DEFAULTS], count=4, seed=0, row="x", tuning=tuning)) == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_a_front_beats_all_others_and_none_of_itself(points: list[tuple[int, int]]) -> None:
    trials = [trial({}, float(score), float(cost)) for score, cost in points]
    kept = [(t.result.metrics["map_avg"], t.costs["gmacs"]) for t in front(trials, TWO)]
    assert len(set(kept)) == len(kept)
    assert kept == sorted(kept)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(kept))
    for score, cost in points:
        assert any(better >= score and cheaper <= cost for better, cheaper in kept)


def test_failed_trials_are_on_no_front() -> None:
    trials = [trial({}, 5.0, status="failed"), trial({}, 1.0)]
    assert front(trials, TWO) == front(trials, ("map",)) == [trials[1]]
    assert front(trials[:1], TWO) == []


def test_a_search_converges_when_generations_bring_nothing() -> None:
    rising = [trial({}, float(i)) for i in range(8)]
    flat = [trial({}, 9.0), *rising]
    tuning = Tuning(patience=1)
    assert not converged(rising, tuning, 4)
    assert converged(flat[:8], tuning, 4)
    assert not converged(flat[:8], Tuning(patience=2), 4), "fewer generations than the patience"
    assert not converged(flat[:8], Tuning(), 4)
    assert not converged(flat[:4], tuning, 4)


def test_halving_ends_the_worse_half() -> None:
    past = [{4: 10.0, 8: 20.0, 10: 30.0}, {4: 12.0, 8: 22.0, 10: 32.0}, {4: 14.0}]
    assert pruning_callback(past, 10, "sha", 4)(4, 1.0)
    assert not pruning_callback(past, 10, "sha", 4)(4, 20.0)
    assert not pruning_callback(past, 10, "none", 4)(4, 0.0)


def test_hyperband_depends_on_the_trials_number_alone() -> None:
    past = [{4: 10.0 + i, 8: 20.0, 10: 30.0} for i in range(4)] + [{}]
    said = [
        [pruning_callback(past, 10, "hyperband", 4, place)(4, 1.0) for place in range(6)] for _ in range(2)
    ]
    assert said[0] == said[1]


def spec(**changes: Any) -> StudySpec:
    value = {"name": "x", "variants": ("both",), **changes}
    return parse_spec(StudySpec, value, where="test")


def test_rows_change_what_they_say() -> None:
    rows = (
        RowSpec(variant="both", name="no stem", without=("stem",)),
        RowSpec(variant="both", name="alone", shares={"modal": 1.0, "structure": 0.0}, without=("stem",)),
        RowSpec(variant="both-single", name="from tridet", teacher="tridet"),
        RowSpec(variant="none", grid={"student/width": (16, 32), "lr": (1, 2)}),
    )
    found = {row.name: row for row in student_rows(spec(variants=(), rows=rows))}
    assert list(found) == ["none", "no stem", "alone", "from tridet"] + [
        f"none width={w} lr={r}" for w in (16, 32) for r in (1, 2)
    ]
    assert {use.name for use in found["no stem"].variant.terms} == {
        "logits-binary",
        "offsets",
        "hallucination",
    }
    assert set(found["alone"].variant.teachers) == {"modal"}, "a teacher that says nothing is not trained"
    assert found["from tridet"].teachers == {"both": "tridet"}
    assert found["none width=16 lr=2"].space == {}, "nothing is left to tune"
    assert found["none width=16 lr=2"].trials == 0
    assert [row.name for row in student_rows(spec(variants=("no stem",), rows=rows, baseline=False))] == [
        "no stem"
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"variant": "both", "without": ("stam",)}, "no term 'stam'"),
        ({"variant": "both", "shares": {"teacher": 1.0}}, "no teacher 'teacher'"),
        ({"variant": "both", "shares": {"modal": 0.0, "structure": 0.0}}, "no teacher has a share"),
        ({"variant": "both", "settings": {"student/widht": 16}}, "unknown setting 'student/widht'"),
        ({"variant": "none", "settings": {"temperature": 2}}, "unknown setting 'temperature'"),
    ],
)
def test_rows_that_cannot_be_are_refused(row: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        student_rows(spec(variants=(), rows=(row,)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": ({"variant": "both"}, {"variant": "both"})}, "two are named 'both'"),
        ({"objective": ("gmacs",)}, "need map"),
        ({"sampler": "grid"}, "a grid needs values"),
        ({"search": {"lr": {"low": 2, "high": 1}}}, "low 2 is above high 1"),
    ],
)
def test_studies_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        spec(**changes)


def played(given_: StudySpec, folder: Path, workers: int) -> tuple[dict[str, Any], list[Job], int]:
    """A study of played runs: the wider, the better."""

    def play(job: Job) -> RunResult:
        return result_of(job.spec, score=job.spec.detector.width + job.spec.train.lr)

    played_ = protocol(given_, folder, budget=given_.effective_budget.model_copy(update={"seeds": 2}))
    executor, callback = FakeExecutor(play), RecordingCallback()
    rows = run_rows(played_.rows(), executor, lambda: workers, callback)
    before = len(callback.calls)
    assert before == len(played_.plan.runs)
    fronts = played_.front_rows(rows)
    for search, members in fronts.items():
        rows[search] = rows[search].model_copy(update={"members": tuple(name for name, _ in members)})
    steps = [member for members in fronts.values() for member in members]
    return rows | run_rows(steps, executor, lambda: workers, callback), executor.jobs, before


def test_a_front_becomes_rows_whatever_the_workers(tmp_path: Path) -> None:
    given_ = spec(variants=("self",), objective=TWO, trials=12, baseline=False)
    alone, jobs, _ = played(given_, tmp_path / "1", 1)
    together, _, _ = played(given_, tmp_path / "2", 5)
    assert alone == together
    search = alone["self"]
    assert isinstance(search, SearchRecord)
    assert len(search.trials) == len(search.values) == len(search.tried) == 12
    assert not search.finals
    assert len(search.members) == len(search.front) > 1
    by_hash = {job.spec.hash: job for job in jobs}
    for name, hash_ in zip(search.members, search.front, strict=True):
        member = alone[name]
        tried = by_hash[hash_].spec
        assert by_hash[hash_].history is None, "several objectives do not prune"
        assert f"w{tried.detector.width} d{tried.detector.stem_blocks}" in name
        assert member.chosen == hash_
        assert all(by_hash[h].spec.detector == tried.detector for h in member.finals)
    widths = [by_hash[h].spec.detector.width for h in search.front]
    assert widths == sorted(widths)


def test_patience_ends_a_search_alike_for_all_workers(tmp_path: Path) -> None:
    given_ = spec(variants=("none",), trials=24, patience=1, search={"lr": (1.0, 0.5, 0.7)})
    rows, _, _ = _ended(given_, tmp_path / "1", 1)
    more, _, _ = _ended(given_, tmp_path / "2", 4)
    assert rows == more
    assert len(rows["none"].trials) < 24


def _ended(given_: StudySpec, folder: Path, workers: int) -> tuple[dict[str, Any], int, int]:
    executor = FakeExecutor(lambda job: result_of(job.spec, score=-abs(job.spec.train.lr)))
    rows = protocol(given_, folder, budget=given_.effective_budget).rows()
    return run_rows(rows, executor, lambda: workers, RecordingCallback()), len(executor.jobs), 0


def test_time_that_is_over_begins_nothing_and_the_next_call_goes_on(tmp_path: Path) -> None:
    given_ = spec(variants=("both",))
    two = protocol(given_, tmp_path, budget=Budget(trials=2, seeds=1))
    stage = FakeExecutor()
    rows = run_rows(two.rows(), stage, lambda: 2, RecordingCallback(), stop=lambda: len(stage.jobs) >= 3)
    assert len(stage.jobs) in (3, 4)
    assert "both" not in rows
    again = FakeExecutor()
    rows = run_rows(two.rows(), again, lambda: 2, RecordingCallback())
    assert "both" in rows
    assert not {j.spec.hash for j in again.jobs} & {j.spec.hash for j in stage.jobs}


def test_warm_starts_take_rows_of_the_same_name(tmp_path: Path) -> None:
    write_fake_study(tmp_path / "earlier")
    warm = warm_start(spec(variants=("both", "c2ms-both")), tmp_path / "earlier")
    assert warm.start == {"none": {"lr": 1e-3}, "both": {"lr": 1e-3}}
    with pytest.raises(InputError, match="no tuned row"):
        warm_start(spec(variants=("c2ms-both",), baseline=False), tmp_path / "earlier")
    with pytest.raises(InputError, match="no study"):
        warm_start(spec(), tmp_path)
