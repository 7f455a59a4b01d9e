"""Specs, results, plans and executors of studies that never train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from tiny import FAST, tiny_spec

from tal_bench.config import Budget, RunSpec, StudySpec
from tal_bench.models.registry import detector_spec, get_model
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RunResult
from tal_bench.studies.plan import make_plan
from tal_bench.studies.protocol import Protocol
from tal_bench.studies.run import Job, JobFactory
from tal_bench.studies.run_specs import RunSpecs


def run_spec(model: str = "conv-dw-hallucinated", folder: Path = Path(), **changes: Any) -> RunSpec:
    dataset = tiny_spec(folder=folder)
    architecture = detector_spec(get_model(model), dataset, 3)
    value = {"dataset": dataset, "model": model, "detector": architecture, "train": FAST}
    return RunSpec(**{**value, **changes})


def result_of(spec: RunSpec, status: Any = "finished", score: float = 10.0) -> RunResult:
    metrics = {} if status == "failed" else {"map_0.50": score, "map_avg": score}
    error = "out of luck" if status == "failed" else None
    return RunResult(hash=spec.hash, spec=spec, status=status, metrics=metrics, error=error)


def run_specs(**changes: Any) -> RunSpecs:
    value: dict[str, Any] = {
        "dataset": tiny_spec(),
        "classes": 3,
        "budget": Budget(trials=1, seeds=2),
        "device": "cpu",
        "precision": "fp32",
    }
    return RunSpecs(**{**value, **changes})


def protocol(spec: StudySpec, folder: Path, **changes: Any) -> Protocol:
    """The protocol of a study on ten small videos; changes are those of `run_specs`."""
    return Protocol(make_plan(spec, run_specs(**changes)), JobFactory(folder))


Behaviour = Callable[[Job], RunResult]


class FakeExecutor(Executor):
    """Computes nothing: plays results, one `submit` at a time, and remembers what was asked for."""

    def __init__(self, play: Behaviour = lambda job: result_of(job.spec)) -> None:
        self.play, self.jobs, self.most = play, [], 0
        self.open: list[tuple[Future[Any], Job]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        (job,) = args
        self.jobs.append(job)
        future: Future[Any] = Future()
        try:
            result = self.play(job)
            StudyFolder(job.folder).write_run(result)
            future.set_result(result)
        except Exception as error:
            future.set_exception(error)
        return future


class RecordingCallback:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, str, bool]] = []

    def __call__(self, rows: Sequence[str], result: RunResult, fresh: bool) -> None:
        self.calls.append((" ".join(rows), result.spec.seed, result.status, fresh))
