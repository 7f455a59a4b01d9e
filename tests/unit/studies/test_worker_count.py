"""How many workers a study has, and that its dry run says the same; runs are played, nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_parts import FakeExecutor, RecordingCallback, protocol, result_of
from tiny import write_dataset

from tal_bench.config import Budget, StudySpec
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult
from tal_bench.studies import ablate, dry_run
from tal_bench.studies.ablate import ExecutionOptions, worker_count
from tal_bench.studies.protocol import Protocol
from tal_bench.studies.run import Job
from tal_bench.studies.scheduler import missing_runs, run_rows

STUDY = StudySpec(name="s", variants=("none", "both"))
FRONT = StudySpec(name="s", variants=("none",), references=(), objective=("map", "gmacs"), sampler="nsga2")


def play(made: Protocol, *, fronts: bool = True) -> FakeExecutor:
    """Do all runs of a study; every further trial is worse than the first."""
    scores: dict[str, float] = {}

    def score(job: Job) -> RunResult:
        return result_of(job.spec, score=scores.setdefault(job.spec.hash, 50.0 - len(scores)))

    executor = FakeExecutor(score)
    rows = run_rows(made.rows(), executor, lambda: 1, RecordingCallback())
    if fronts:
        steps = [member for front in made.front_rows(rows).values() for member in front]
        run_rows(steps, executor, lambda: 1, RecordingCallback())
    return executor


def test_runs_on_disk_are_not_missing(tmp_path: Path) -> None:
    made = protocol(STUDY, tmp_path)
    assert missing_runs(made) == len(made.plan.runs)
    done = play(made)
    assert missing_runs(made) == 0
    StudyFolder(tmp_path).run_file(done.jobs[-1].spec.hash).unlink()
    assert missing_runs(made) == 1


def test_trials_that_a_search_did_not_need_are_not_missing(tmp_path: Path) -> None:
    made = protocol(
        STUDY.model_copy(update={"patience": 1}), tmp_path, budget=Budget(trials=16, seeds=1, generation=4)
    )
    done = {job.spec.hash for job in play(made).jobs}
    assert len(done) < len(made.plan.runs)
    assert missing_runs(made) == 0


def test_members_of_a_front_that_were_not_tested_are_missing(tmp_path: Path) -> None:
    made = protocol(FRONT, tmp_path)
    play(made, fronts=False)
    assert missing_runs(made) == 2, "one trial, hence one member, with two seeds"
    play(made)
    assert missing_runs(made) == 0


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of missing runs for which the memory of a training was measured, on a machine with two GPUs."""
    calls: list[int] = []

    def jobs_on_gpus(largest: Any, *, graphs: bool, most: int, plugins: Any) -> int:
        assert largest() is not None and graphs
        calls.append(most)
        return 6

    monkeypatch.setattr(ablate, "jobs_on_gpus", jobs_on_gpus)
    monkeypatch.setattr("tal_bench.system.gpus.visible_gpus", lambda: ("0", "1"))
    return calls


@pytest.mark.parametrize(
    ("options", "device", "workers"),
    [
        ({}, "cuda", 6),
        ({"scheduler": "local"}, "cuda", 6),
        ({"scheduler": "processes"}, "cuda", 6),
        ({"scheduler": "in-process"}, "cuda", 1),
        ({"scheduler": "in-process", "jobs": 4}, "cpu", 1),
        ({"scheduler": "tcp://10.0.0.1:8786"}, "cuda", 2),
        ({"jobs": 3}, "cuda", 3),
        ({"jobs": 3}, "cpu", 3),
    ],
)
def test_memory_is_measured_only_where_it_decides(
    options: dict[str, Any], device: str, workers: int, tmp_path: Path, measured: list[int]
) -> None:
    made = protocol(STUDY, tmp_path)
    assert worker_count(made, ExecutionOptions(**options), device) == workers
    assert measured == ([len(made.plan.runs)] if workers == 6 else [])


def test_a_dry_run_names_the_workers_of_the_study(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ablate, dry_run):
        monkeypatch.setattr(module, "choose_device", lambda name: "cuda")
    made: list[int] = []

    class StopError(Exception):
        pass

    def make_executor(setup: Any) -> Any:
        made.append(setup.jobs)
        raise StopError

    monkeypatch.setattr(ablate, "make_executor", make_executor)
    file = write_dataset(tmp_path / "data")
    spec = StudySpec(name="s", dataset=str(file), variants=("none",), budget="smoke")
    options = ExecutionOptions(reports=tmp_path / "reports", tracking_uri="off")
    assert dry_run.dry_run(spec, options).jobs == 6
    with pytest.raises(StopError):
        ablate.ablate(spec, options)
    assert made == [6] and len(set(measured)) == 1
