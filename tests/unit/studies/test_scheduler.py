"""Plans over an executor: order, sharing, resuming, failing. Runs are played, nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from study_parts import FakeExecutor, RecordingCallback, protocol, result_of, run_spec

from tal_bench.config import StudySpec
from tal_bench.distill.variants import variants
from tal_bench.errors import InputError
from tal_bench.execution.executors import InProcessPool
from tal_bench.execution.progress import describe, remaining, run_progress
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.protocol import RowSteps
from tal_bench.studies.run import Job
from tal_bench.studies.scheduler import run_rows
from tal_bench.system.worker_pool import UnopenedDeviceError, WorkerLostError


def job(folder: Path, seed: int) -> Job:
    return Job(run_spec(seed=seed), folder)


def plan(folder: Path, *steps: Sequence[int], name: str = "row") -> RowSteps:
    hashes: list[str] = []
    for seeds in steps:
        jobs = [job(folder, seed) for seed in seeds]
        results = yield jobs
        assert [r.hash for r in results] == [j.spec.hash for j in jobs], "results come in the order asked for"
        hashes += [r.hash for r in results]
    spec = run_spec()
    return RowRecord(name=name, kind="student", model=spec.model, modalities="rgb", finals=tuple(hashes))


def test_plans_interleave_and_the_first_goes_before(tmp_path: Path) -> None:
    stage, heard = FakeExecutor(), RecordingCallback()
    plans = [("a", plan(tmp_path, [1], [2])), ("b", plan(tmp_path, [3], [4]))]
    rows = run_rows(plans, stage, lambda: 1, heard)
    assert [j.spec.seed for j in stage.jobs] == [1, 2, 3, 4]
    assert rows.keys() == {"a", "b"}
    assert heard.calls == [
        ("a", 1, "finished", True),
        ("a", 2, "finished", True),
        ("b", 3, "finished", True),
        ("b", 4, "finished", True),
    ]


def test_workers_are_kept_busy_with_what_comes_later(tmp_path: Path) -> None:
    stage = FakeExecutor()
    run_rows(
        [("a", plan(tmp_path, [1], [2])), ("b", plan(tmp_path, [3], [4]))],
        stage,
        lambda: 2,
        RecordingCallback(),
    )
    assert {j.spec.seed for j in stage.jobs[:2]} == {1, 3}


def test_a_run_that_two_plans_ask_for_is_done_once(tmp_path: Path) -> None:
    for workers in (1, 3):
        stage, heard = FakeExecutor(), RecordingCallback()
        folder = tmp_path / str(workers)
        plans = [("a", plan(folder, [1, 2])), ("b", plan(folder, [2, 1], [3])), ("c", plan(folder, [3], [1]))]
        rows = run_rows(plans, stage, lambda n=workers: n, heard)  # type: ignore[misc]
        assert sorted(j.spec.seed for j in stage.jobs) == [1, 2, 3]
        assert len(rows) == 3
        assert sorted(seed for _, seed, _, _ in heard.calls) == [1, 2, 3]
        if workers == 1:  # several runs may end at once, in any order
            assert [call[:2] for call in heard.calls] == [("a b", 1), ("a b", 2), ("c b", 3)]


def test_a_result_on_disk_that_two_plans_ask_for_is_told_once(tmp_path: Path) -> None:
    run_rows([("a", plan(tmp_path, [1]))], FakeExecutor(), lambda: 1, RecordingCallback())
    stage, heard = FakeExecutor(), RecordingCallback()
    run_rows([(name, plan(tmp_path, [1])) for name in "ab"], stage, lambda: 1, heard)
    assert not stage.jobs
    assert heard.calls == [("a", 1, "finished", False)]


def test_progress_counts_runs_and_names_the_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = result_of(run_spec(seed=1000)), result_of(run_spec(seed=0))
    name = student.spec.model
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("tal_bench.execution.progress.time.monotonic", lambda: next(clock))
    with run_progress(Console(width=200), 7) as show:
        show(["a"], result_of(run_spec(seed=2)), False)
        show(["a", "b", "c"], teacher, True)
        show(["a", "b"], student, True)
        show(["a"], student, True)
        show([name, "b"], result_of(run_spec(seed=1)), True)
    lines = [line.partition(", no score")[0] for line in capsys.readouterr().out.splitlines()]
    assert [line.partition(", test mAP")[0] for line in lines] == [
        f"[2/7] training for a and 2 other rows: {name} seed 1000",
        f"[3/7] training for a and 1 other row: {name} seed 0",
        f"[3/7] training for a: {name} seed 0",
        f"[4/7, about 40 s left] training {name} seed 1",
    ]


def test_a_line_of_the_log_says_what_a_run_is_for() -> None:
    ended = result_of(run_spec(seed=2))
    tested = ended.model_copy(update={"metrics": {"map_avg": 52.34}, "timings": {"train": 20.0}})
    tuning = tested.spec.model_copy(update={"phase": "tuning"})
    tuned = tested.model_copy(update={"spec": tuning, "status": "pruned"})
    failed = tested.model_copy(update={"status": "failed", "error": "out of memory"})
    model = tested.spec.model
    assert describe(["both"], tested) == f"training for both: {model} seed 2, test mAP 52.3 (20 s)"
    assert (
        describe(["both"], tuned) == f"tuning for both: {model} seed 2, pruned at validation mAP 52.3 (20 s)"
    )
    assert describe([model], failed) == f"training {model} seed 2 failed: out of memory"


def test_remaining_time_is_that_of_the_runs_so_far() -> None:
    assert remaining(60.0, 2, 10) == ""
    assert remaining(60.0, 3, 0) == ""
    assert remaining(60.0, 3, 10) == ", about 3 min left"


def test_a_plan_may_ask_twice_for_the_same(tmp_path: Path) -> None:
    stage, heard = FakeExecutor(), RecordingCallback()
    run_rows([("a", plan(tmp_path, [1, 1], [1]))], stage, lambda: 2, heard)
    assert len(stage.jobs) == 1
    assert len(heard.calls) == 1


def test_results_on_disk_are_not_computed_again(tmp_path: Path) -> None:
    first, second = FakeExecutor(), FakeExecutor()
    rows = run_rows([("a", plan(tmp_path, [1], [2]))], first, lambda: 1, RecordingCallback())
    heard = RecordingCallback()
    assert run_rows([("a", plan(tmp_path, [1], [2]))], second, lambda: 1, heard) == rows
    assert not second.jobs
    assert [fresh for *_, fresh in heard.calls] == [False, False]


def test_pruned_trials_are_not_repeated_and_failures_are(tmp_path: Path) -> None:
    status = {1: "pruned", 2: "failed"}
    run_rows(
        [("a", plan(tmp_path, [1, 2]))],
        FakeExecutor(lambda j: result_of(j.spec, status[j.spec.seed])),
        lambda: 1,
        RecordingCallback(),
    )
    again, heard = FakeExecutor(), RecordingCallback()
    run_rows([("a", plan(tmp_path, [1, 2]))], again, lambda: 1, heard)
    assert [j.spec.seed for j in again.jobs] == [2]
    assert ("a", 2, "finished", True) in heard.calls


def test_a_failing_run_is_recorded_and_the_study_goes_on(tmp_path: Path) -> None:
    stage = FakeExecutor(lambda j: result_of(j.spec, "failed" if j.spec.seed == 1 else "finished"))
    heard = RecordingCallback()
    rows = run_rows([("a", plan(tmp_path, [1], [2])), ("b", plan(tmp_path, [1, 3]))], stage, lambda: 1, heard)
    assert rows.keys() == {"a", "b"}
    assert sorted(j.spec.seed for j in stage.jobs) == [1, 2, 3], "a failure is not repeated within a study"
    assert ("a b", 1, "failed", True) in heard.calls


@pytest.mark.parametrize("variant", ["both", "self", "c2ms-both"])
def test_a_student_row_survives_failing_teachers(tmp_path: Path, variant: str) -> None:
    stage = FakeExecutor(lambda j: result_of(j.spec, "failed"))
    steps = protocol(StudySpec(name="x", variants=(variant,), baseline=False), tmp_path).rows()
    row = run_rows(steps, stage, lambda: 2, RecordingCallback())[variant]
    assert len(row.finals) == 2
    assert row.settings == variants.get(variant).defaults()


def test_bad_input_ends_the_study_and_says_why(tmp_path: Path) -> None:
    def play(asked: Job) -> RunResult:
        raise InputError("is broken", where="features.npy")

    with pytest.raises(InputError, match="is broken"):
        run_rows([("a", plan(tmp_path, [1]))], FakeExecutor(play), lambda: 1, RecordingCallback())


def test_a_run_whose_workers_die_fails_and_the_study_goes_on(tmp_path: Path) -> None:
    def play(asked: Job) -> RunResult:
        if asked.spec.seed == 1:
            raise WorkerLostError("its worker process died 3 times")
        return result_of(asked.spec)

    heard = RecordingCallback()
    rows = run_rows([("a", plan(tmp_path, [1], [2]))], FakeExecutor(play), lambda: 1, heard)
    assert heard.calls == [("a", 1, "failed", True), ("a", 2, "finished", True)]
    kept = StudyFolder(tmp_path).read_run(rows["a"].finals[0])
    assert kept is not None
    assert "died 3 times; if for lack of memory, half of that may fit" in str(kept.error)


def test_without_any_device_the_study_ends_and_keeps_what_ended(tmp_path: Path) -> None:
    def play(asked: Job) -> RunResult:
        if asked.spec.seed == 2:
            raise UnopenedDeviceError("device cuda cannot be opened", hint="see with nvidia-smi")
        return result_of(asked.spec)

    stage, heard = FakeExecutor(play), RecordingCallback()
    rows = [("a", plan(tmp_path, [1], [2])), ("b", plan(tmp_path, [3]))]
    with pytest.raises(UnopenedDeviceError, match=r"^device cuda cannot be opened \(see with nvidia-smi\)$"):
        run_rows(rows, stage, lambda: 1, heard)
    assert [asked.spec.seed for asked in stage.jobs] == [1, 2], "no further run fails for the same reason"
    assert heard.calls == [("a", 1, "finished", True)]
    assert [result.status for result in StudyFolder(tmp_path).runs()] == ["finished"]


def test_workers_that_come_later_are_used(tmp_path: Path) -> None:
    there = iter([1, 1, 2, 2, 2, 2, 2, 2])
    open_now: list[Future[Any]] = []

    class Slow(FakeExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            open_now.append(future)
            self.jobs.append(args[0])
            if len(open_now) == 2:  # only now does the first end
                for waiting, asked in zip(open_now, self.jobs, strict=True):
                    waiting.set_result(result_of(asked.spec))
            return future

    run_rows([("a", plan(tmp_path, [1, 2]))], Slow(), lambda: next(there), RecordingCallback())


@pytest.mark.parametrize("place", ["executor", "listener"])
def test_ctrl_c_goes_through(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> RunResult:
        raise KeyboardInterrupt

    heard: Any = interrupted if place == "listener" else RecordingCallback()
    executor: Executor = FakeExecutor() if place == "listener" else InProcessPool()
    monkeypatch.setattr("tal_bench.studies.scheduler.run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_rows([("a", plan(tmp_path, [1]))], executor, lambda: 1, heard)


def test_in_process_errors_are_in_the_future() -> None:
    future = InProcessPool().submit(int, "x")
    assert isinstance(future.exception(), ValueError)
    assert InProcessPool().submit(int, "7").result() == 7
