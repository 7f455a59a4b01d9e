"""Which rows a study has, which runs they ask for, and that nothing but teacher and terms differs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from study_parts import FakeExecutor, RecordingCallback, protocol, result_of, run_specs
from tiny import tiny_spec

from tal_bench.config import Budget, Range, RunSpec, StudySpec
from tal_bench.distill.terms.registry import Term, terms
from tal_bench.distill.variants import TeacherRef, Variant, variants
from tal_bench.errors import InputError
from tal_bench.models import registry as models
from tal_bench.models.detector import Detector
from tal_bench.models.registry import get_model
from tal_bench.results.records import RowRecord
from tal_bench.studies.definition import check_names, study_spec
from tal_bench.studies.plan import make_plan
from tal_bench.studies.rows import FACTORIAL, chosen_rows, without_branch
from tal_bench.studies.run import Job
from tal_bench.studies.run_specs import TUNING_SEED
from tal_bench.studies.scheduler import run_rows

LAVISH = Budget(trials=3, seeds=2, generation=2, paired_teachers=True, teacher_lr=(0.5, 1.0))


def played(
    spec: StudySpec, folder: Path, workers: int = 1, **changes: Any
) -> tuple[dict[str, RowRecord], list[RunSpec], RecordingCallback]:
    """Rows, runs in the order of their computation, and the calls of the callback."""

    def play(job: Job) -> Any:
        return result_of(job.spec, score=10 * job.spec.train.lr)

    executor, callback = FakeExecutor(play), RecordingCallback()
    rows = run_rows(protocol(spec, folder, **changes).rows(), executor, lambda: workers, callback)
    return rows, [job.spec for job in executor.jobs], callback


def names_of(spec: StudySpec, **changes: Any) -> list[str]:
    return [row.name for row in make_plan(spec, run_specs(**changes)).rows]


def study(*names: str, **changes: Any) -> StudySpec:
    return StudySpec(name="x", variants=names, **changes)


def test_the_baseline_is_always_there() -> None:
    def names(*variants: str, **changes: Any) -> list[str]:
        return [row.name for row in chosen_rows(study(*variants, **changes))]

    assert names("both") == names() == ["none", "both"]
    assert names("none") == ["none"]
    assert names("both", baseline=False) == ["both"]
    assert names("both", "all", "self") == list(FACTORIAL)
    assert "c2ms-both" in names("all", "c2ms-both")
    with pytest.raises(InputError, match="did you mean"):
        names("cross-modl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": "actionformer"}, "student: .actionformer. reads privileged modalities"),
        ({"student": "conv-dw-halucinated"}, "did you mean"),
        ({"teacher": "actionfromer"}, "did you mean"),
        ({"references": ("nothing",)}, "unknown model"),
    ],
)
def test_unknown_names_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_names(study("both", **changes))


def test_rows_of_the_main_comparison() -> None:
    order = names_of(study("both"))
    assert order == ["actionformer", "conv", "conv-dw-primary", "none", "both"]
    order = names_of(study("all", references=("actionformer-privileged",)))
    assert order[-7:] == list(FACTORIAL)
    labelled = order[:-7]
    assert set(labelled) == {
        "actionformer", "conv", "conv-dw", "actionformer-primary", "actionformer-privileged",
        "conv-dw-primary",
    }  # fmt: skip
    assert len(labelled) == len(set(labelled))


@pytest.mark.parametrize(
    ("ref", "name"),
    [
        (TeacherRef("student", "student"), "conv-dw-hallucinated"),
        (TeacherRef("student", "all"), "conv-dw"),
        (TeacherRef("teacher", "all"), "actionformer"),
        (TeacherRef("teacher", "primary"), "actionformer-primary"),
        (TeacherRef("conv", "all"), "conv"),
        (TeacherRef("conv", "primary"), "conv-primary"),
    ],
)
def test_teachers_follow_student_and_teacher(ref: TeacherRef, name: str) -> None:
    assert run_specs().teacher_of(ref, "conv-dw-hallucinated", "actionformer") == name


def test_teachers_follow_temporal_attention_and_size() -> None:
    ref, student = TeacherRef("student", "all"), "conv-hallucinated-ta-small"
    assert run_specs().teacher_of(ref, student, "actionformer") == "conv-ta-small"


def test_counterpart_without_the_branch() -> None:
    assert without_branch("conv-dw-hallucinated") == "conv-dw-primary"
    assert without_branch("conv-dw-hallucinated-ta") == "conv-dw-primary-ta"
    assert without_branch("conv-dw-primary") is None


@pytest.mark.parametrize("budget", [Budget(trials=1, seeds=1), Budget(trials=5, seeds=3), LAVISH])
@pytest.mark.parametrize("names", [("none",), ("self",), ("both",), ("all", "c2ms-both")])
def test_the_progress_bar_ends_where_it_says(tmp_path: Path, budget: Budget, names: tuple[str, ...]) -> None:
    spec = study(*names, references=("actionformer-privileged",))
    _, computed, callback = played(spec, tmp_path, budget=budget)
    plan = make_plan(spec, run_specs(budget=budget))
    assert len(callback.calls) == len(computed) <= len(plan.runs)
    # a rate that is chosen from results may be that of a run which is there
    assert budget.teacher_lr or len(computed) == len(plan.runs)


@pytest.mark.parametrize("trials", [1, 4])
def test_a_run_that_a_row_shares_with_a_teacher_is_planned_once(tmp_path: Path, trials: int) -> None:
    """The first trial of `none` is the tuning run of the teacher of `self`."""
    budget = Budget(trials=trials, seeds=1, confirmed=1)
    _, computed, _ = played(study("self"), tmp_path, budget=budget)
    plan = make_plan(study("self"), run_specs(budget=budget))
    rows = {row.name: set(row.runs) for row in plan.student_rows}
    assert len(rows["none"] & rows["self"]) == (2 if trials == 1 else 1), (
        "without a search also the final one"
    )
    distinct = len({spec.hash for spec in computed})
    assert len(plan.runs) == distinct if trials == 1 else distinct <= len(plan.runs)


@pytest.mark.parametrize(
    ("rates", "shared"), [((0.5, 1.0, 2.0), 1), ((0.5, 2.0), 0), ((2.0,), 0), ((1.0,), 2)]
)
def test_a_grid_of_rates_shares_the_runs_of_these_rates(
    tmp_path: Path, rates: tuple[float, ...], shared: int
) -> None:
    """The teacher of `self` has the rate 1; a grid tries the defaults only if it contains them."""
    spec = study("self", sampler="grid", search={"lr": rates})
    budget = Budget(trials=len(rates), seeds=1, confirmed=1)
    _, computed, _ = played(spec, tmp_path, budget=budget)
    plan = make_plan(spec, run_specs(budget=budget))
    none, itself = (set(row.runs) for row in plan.student_rows)
    assert len(none & itself) == shared
    assert len(plan.runs) == len({run.hash for run in computed})


def test_rows_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    spec = study("all")
    alone, one, _ = played(spec, tmp_path / "1", 1, budget=LAVISH)
    together, many, _ = played(spec, tmp_path / "2", 5, budget=LAVISH)
    assert alone == together
    assert {r.hash for r in one} == {r.hash for r in many}
    assert len(one) == len({r.hash for r in one}), "nothing is computed twice"


def test_rows_differ_in_teachers_and_terms_alone(tmp_path: Path) -> None:
    rows, computed, _ = played(study("all"), tmp_path, budget=Budget(trials=2, seeds=2))
    by_hash = {r.hash: r for r in computed}
    base = [by_hash[h] for h in rows["none"].finals]
    for name in (name for name in FACTORIAL if not variants.get(name).matched):
        row = rows[name]
        assert row.seeds == (0, 1)
        assert len(row.trials) == 2
        for spec, reference in zip((by_hash[h] for h in row.finals), base, strict=True):
            free = {"distill": None, "train": spec.train.model_copy(update={"lr": 1.0})}
            plain = {"train": reference.train.model_copy(update={"lr": 1.0})}
            assert spec.model_copy(update=free) == reference.model_copy(update=plain)
            assert (spec.distill is None) == (name == "none")
        assert by_hash[row.trials[0]].train.lr == base[0].train.lr or row.settings["lr"] != 1.0
        assert {by_hash[h].seed for h in row.trials} == {TUNING_SEED}
        assert {by_hash[h].phase for h in row.trials} == {"tuning"}


def test_the_first_trial_has_the_default_settings(tmp_path: Path) -> None:
    rows, computed, _ = played(study("both"), tmp_path)
    by_hash = {r.hash: r for r in computed}
    (spec,) = (by_hash[h] for h in rows["both"].trials)
    assert spec.distill is not None
    both = variants.get("both")
    assert {t.name: t.weight for t in spec.distill.terms} == {t.name: t.weight for t in both.terms}
    assert (spec.distill.soft_weight, spec.distill.temperature) == (both.soft_weight, both.temperature)
    assert spec.train == run_specs().schedule(spec.model)


@pytest.mark.parametrize("paired", [False, True])
def test_who_teaches_whom(tmp_path: Path, paired: bool) -> None:
    budget = Budget(trials=1, seeds=2, paired_teachers=paired)
    rows, computed, _ = played(study("both"), tmp_path, budget=budget)
    by_hash = {r.hash: r for r in computed}
    for hash_, seed in zip(rows["both"].finals, (0, 1), strict=True):
        distill = by_hash[hash_].distill
        assert distill is not None
        assert {role: use.model for role, use in distill.teachers.items()} == rows["both"].teachers
        for use in distill.teachers.values():
            teacher = by_hash[use.run]
            assert (teacher.phase, teacher.seed) == ("final", seed if paired else 0)
            assert teacher.distill is None
            assert use.run in rows[use.model].finals, "the teacher's row shows the run that taught"
    tuned = by_hash[rows["both"].trials[0]].distill
    assert tuned is not None
    assert {by_hash[use.run].phase for use in tuned.teachers.values()} == {"tuning"}


def test_teachers_take_the_best_of_the_budgets_rates(tmp_path: Path) -> None:
    """The played score grows with the rate, so the largest wins, for the row and for its students."""
    budget = Budget(trials=1, seeds=1, teacher_lr=(0.5, 1.0, 2.0))
    rows, computed, _ = played(study("both"), tmp_path, budget=budget)
    by_hash = {r.hash: r for r in computed}
    assert rows["actionformer"].settings == {"lr": 2.0}
    assert by_hash[rows["actionformer"].finals[0]].train.lr == pytest.approx(
        2 * run_specs().schedule("actionformer").lr
    )
    distill = by_hash[rows["both"].finals[0]].distill
    assert distill is not None
    assert distill.teachers["modal"].run == rows["actionformer"].finals[0]


def test_the_study_of_methods_has_every_method() -> None:
    spec, _ = study_spec("methods", {})
    rows = {row.name: row for row in chosen_rows(spec)}
    compared = {"none", "self", "both-single", "both"}
    assert {row.variant for row in rows.values()} == compared | {n for n in variants if n.startswith("kd-")}
    own = {name for name, row in rows.items() if row.student}
    assert {name: rows[name].student for name in own} == {
        "none tridet": "tridet-hallucinated",
        "kd-ld": "tridet-hallucinated",
        "none decomposed": "conv-dw-decomposed",
        "kd-decomposed": "conv-dw-decomposed",
    }
    assert set(names_of(spec)) > rows.keys()


def test_budgets_shorten_the_schedule() -> None:
    recipe = run_specs().schedule("conv")
    for epochs in (1, 2, 5):
        schedule = run_specs(budget=Budget(epochs=epochs)).schedule("conv")
        assert schedule.total_epochs == epochs
        assert schedule.epochs >= 1
        assert schedule.warmup_epochs <= recipe.warmup_epochs


def test_modalities_are_shown_by_their_own_names(tmp_path: Path) -> None:
    rows, _, _ = played(study("both"), tmp_path)
    assert rows["actionformer"].modalities == "rgb + flow"
    assert rows["both"].modalities == "rgb"
    assert {get_model(rows[name].model).is_student for name in ("none", "both")} == {True}


@pytest.mark.parametrize(
    ("student", "variant", "said"),
    [
        ("conv-dw-primary", "cross-modal", "variant 'cross-modal' compares inputs"),
        ("conv-dw-primary", "both", "variant 'both' compares inputs"),
        ("conv-dw-decomposed", "both", "variant 'both' compares inputs"),
        (
            "conv-dw-hallucinated",
            "kd-decomposed",
            "reads 'motion', which student 'conv-dw-hallucinated' does not",
        ),
        ("conv-dw-hallucinated-small", "both", "has 5 levels, its teacher 'actionformer' in 'both' has 6"),
    ],
)
def test_students_that_cannot_learn_from_a_teacher_are_refused_at_once(
    student: str, variant: str, said: str
) -> None:
    dataset = tiny_spec().model_copy(update={"size": "full"})
    with pytest.raises(InputError, match=said):
        names_of(study(variant, student=student), dataset=dataset)


@pytest.mark.parametrize(
    ("reads", "students", "said"),
    [
        (
            {"bins": "equal"},
            "conv",
            "reads 'bins', which student 'conv-hallucinated' does not offer (choose networks",
        ),
        ({"bins": "teacher"}, "conv", "reads 'bins', which its teacher 'actionformer' does not offer"),
        (
            {"classifier/7": "any"},
            "conv",
            "reads 'classifier/7', which student 'conv-hallucinated' does not offer (it",
        ),
        (
            {"neck": "equal"},
            "conv",
            "student 'conv-hallucinated' has 512 channels, its teacher 'actionformer' 256",
        ),
        (
            {"neck": "any"},
            "built",
            "reads 'neck', which student 'built-hallucinated' does not offer (it offers inputs",
        ),
        ({"neck": "project", "classifier/1": "any", "labels": "any"}, "conv", ""),
    ],
)
def test_terms_that_read_what_a_network_does_not_offer_are_refused_at_once(
    reads: Any, students: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks of structure `built` are modules of their own."""
    for registry in (terms, variants, models.students, models.teachers):
        monkeypatch.setattr(registry, "_entries", dict(registry._load_entries()))
    term = Term("mine", lambda *_: torch.zeros(()), Range(low=0.1, high=1.0), "", reads=reads)
    uses = (terms.add("mine", term).use("both"),)
    variants.add("mine", Variant("mine", "", {"both": TeacherRef("teacher", "all")}, uses))
    narrow = replace(get_model("actionformer"), overrides={"width": 256})
    models.teachers._entries["actionformer"] = narrow
    built = replace(get_model("conv-hallucinated"), name="built-hallucinated", build=partial(Detector))
    models.students.add("built-hallucinated", built)
    spec = study("mine", student=f"{students}-hallucinated")
    dataset = tiny_spec().model_copy(update={"size": "full"})
    if not said:
        assert names_of(spec, dataset=dataset)[-1] == "mine"
        return
    with pytest.raises(InputError, match=re.escape(said)):
        names_of(spec, dataset=dataset)


@pytest.mark.parametrize("variant", ["self", "cross-structure"])
def test_students_without_a_branch_learn_from_teachers_that_see_no_more(variant: str) -> None:
    order = names_of(study(variant, student="conv-dw-primary"))
    assert order[-2:] == ["none", variant]
