"""Steps of a row: seeds, the choice of a trial on several seeds, and the compute-matched baseline."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_parts import FakeExecutor, RecordingCallback, protocol, result_of

from tal_bench.config import Budget, StudySpec
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.run import Job
from tal_bench.studies.run_specs import STEP, TUNING_SEED
from tal_bench.studies.scheduler import run_rows


def play(folder: Path, score: dict[int, dict[int, float]], **budget: int) -> tuple[RowRecord, list[Job]]:
    """Return the record of `none`, and its jobs, if trial k has the score `score[k][seed]` or fails."""
    trials: dict[float, int] = {}

    def run(job: Job) -> RunResult:
        if job.spec.phase == "final" or "primary" in job.spec.model:
            return result_of(job.spec)
        number = trials.setdefault(job.spec.train.lr, len(trials))
        seed = job.spec.seed - TUNING_SEED
        if seed not in score[number]:
            return result_of(job.spec, "failed")
        return result_of(job.spec, score=score[number][seed])

    executor = FakeExecutor(run)
    value = {"trials": 3, "seeds": 2, "generation": 1, **budget}
    steps = protocol(StudySpec(name="x", variants=("none",)), folder, budget=Budget(**value)).rows()
    record = run_rows(steps, executor, lambda: 1, RecordingCallback())["none"]
    return record, [job for job in executor.jobs if "primary" not in job.spec.model]


def test_the_choice_is_confirmed_on_further_seeds(tmp_path: Path) -> None:
    score = {0: {0: 30.0, 1: 30.0, 2: 30.0}, 1: {0: 31.0, 1: 20.0, 2: 20.0}, 2: {0: 10.0}}
    record, jobs = play(tmp_path, score)
    further = [job.spec for job in jobs if job.spec.seed in (TUNING_SEED + 1, TUNING_SEED + 2)]
    assert [spec.hash for spec in further] == list(record.confirmations)
    assert {spec.phase for spec in further} == {"tuning"} and len(further) == 4
    assert record.chosen == record.trials[0], "trial 1 was better on one seed only"
    finals = [job.spec for job in jobs if job.spec.phase == "final"]
    assert {spec.train.lr for spec in finals} == {jobs[0].spec.train.lr}


def test_settings_that_fail_with_a_further_seed_come_last(tmp_path: Path) -> None:
    steady = {0: 30.0, 1: 30.0, 2: 30.0}
    record, _ = play(tmp_path / "a", {0: steady, 1: {0: 31.0}, 2: {0: 10.0}})
    assert record.chosen == record.trials[0]
    record, _ = play(tmp_path / "b", {0: {0: 30.0, 1: 20.0}, 1: {0: 31.0, 2: 21.0}, 2: {0: 10.0}})
    assert record.chosen == record.trials[1], "both fail with a seed: the better mean"


def test_without_further_seeds_the_best_trial_is_chosen(tmp_path: Path) -> None:
    record, _ = play(tmp_path, {0: {0: 30.0}, 1: {0: 31.0}, 2: {0: 10.0}}, confirm_seeds=1)
    assert record.confirmations == () and record.chosen == record.trials[1]


def test_teachers_and_references_have_fewer_seeds() -> None:
    plan = protocol(
        StudySpec(name="x", variants=("both",)), Path(), budget=Budget(seeds=8, teacher_seeds=3)
    ).plan
    assert {len(row.seeds) for row in plan.labels_rows} == {3}
    assert {len(row.seeds) for row in plan.student_rows} == {8}
    assert Budget(seeds=2, teacher_seeds=3).label_seeds == 2


def test_the_matched_baseline_costs_as_much_as_the_most_expensive_row() -> None:
    plan = protocol(StudySpec(name="x", variants=("none-matched", "self", "both")), Path()).plan
    rows = {row.name: row for row in plan.student_rows}
    specs = plan.run_specs
    macs = {name: specs.step_macs(row.student, row.teachers.values()) for name, row in rows.items()}
    assert macs["none"] == STEP * specs.forward_macs("conv-dw-hallucinated")
    assert macs["both"] == macs["none"] + specs.forward_macs("actionformer") + specs.forward_macs("conv")
    assert macs["self"] == macs["none"] * (STEP + 1) / STEP
    assert rows["none-matched"].epochs_factor == macs["both"] / macs["none"] > 1
    assert {row.epochs_factor for name, row in rows.items() if name != "none-matched"} == {1.0}
    recipe = specs.schedule("conv-dw-hallucinated")
    variant = rows["none-matched"].variant
    run = specs.distilled(
        "conv-dw-hallucinated", variant, "final", 0, {}, {}, rows["none-matched"].epochs_factor
    )
    total = run.train.total_epochs
    assert total == pytest.approx(recipe.total_epochs * macs["both"] / macs["none"], abs=1)
    assert total * macs["none"] >= recipe.total_epochs * macs["both"]


def test_a_matched_baseline_alone_is_the_baseline() -> None:
    plan = protocol(StudySpec(name="x", variants=("none-matched",), baseline=False), Path()).plan
    assert [row.epochs_factor for row in plan.student_rows] == [1.0]
