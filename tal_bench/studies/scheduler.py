"""Carry out plans: generators that ask for runs and go on when they have the results.

A plan is written as straight code (`results = yield jobs`); the driver interleaves many plans over one
executor, does a run that several plans ask for once, and keeps every worker busy.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from tal_bench.errors import DiskFullError
from tal_bench.execution.failure import lost
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.run import Job, recall, run
from tal_bench.system.worker_pool import WorkerLostError

Plan = Generator[Sequence[Job], list[RunResult], RowRecord]
OnResult = Callable[[str, RunResult, bool], None]
"""(row, result, whether it was computed now rather than found on disk)."""
LOOK_AROUND = 2.0
"""Seconds after which a driver that waits asks how many workers there are now."""


@dataclass
class _Step:
    """A plan that waits for its jobs."""

    name: str
    plan: Plan
    priority: int
    jobs: Sequence[Job] = ()
    done: dict[str, RunResult] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return all(job.spec.hash in self.done for job in self.jobs)

    def advance(self) -> RowRecord | None:
        """Hand the results over; the finished row, or none when more jobs are asked for."""
        results = [self.done[job.spec.hash] for job in self.jobs]
        try:
            self.jobs = self.plan.send(results) if self.jobs else next(self.plan)
            return None
        except StopIteration as stop:
            row: RowRecord = stop.value
            return row


def drive(
    plans: Sequence[tuple[str, Plan]],
    executor: Executor,
    workers: Callable[[], int],
    on_result: OnResult,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, RowRecord]:
    """Run all plans to their end.

    A run that failed, or whose workers died, is a result too; the others go on.

    Args:
        plans: names and plans, the most urgent first.
        executor: computes jobs.
        workers: says how many jobs it computes at a time, now.
        on_result: called in this process for every result that a plan gets.
        stop: whether no further job is to be begun; those that run are waited for.

    Returns:
        Name to finished row; plans that were stopped have none.
    """
    rows: dict[str, RowRecord] = {}
    results: dict[str, RunResult] = {}
    queue: list[tuple[int, int, str]] = []
    wanted: dict[str, Job] = {}
    flying: dict[Future[RunResult], str] = {}
    waiting: list[_Step] = []

    def receive(step: _Step, key: str, *, fresh: bool) -> None:
        """Give a plan a result that it waits for, once."""
        if key not in step.done:
            step.done[key] = results[key]
            on_result(step.name, results[key], fresh)

    def advance(step: _Step) -> None:
        """Let a plan go on as far as known results carry it, and queue what it asks for next."""
        while True:
            row = step.advance()
            if row is not None:
                rows[step.name] = row
                return
            for job in step.jobs:
                key = job.spec.hash
                known = results.get(key) or (None if key in wanted else recall(job))
                if known is not None:
                    results[key] = known
                    receive(step, key, fresh=False)
                elif key not in wanted:
                    wanted[key] = job
                    heapq.heappush(queue, (step.priority, len(wanted), key))
            if not step.ready:
                waiting.append(step)
                return

    try:
        for priority, (name, plan) in enumerate(plans):
            advance(_Step(name, plan, priority))
        while queue or flying:
            if stop():
                queue.clear()
            while queue and len(flying) < workers():
                key = heapq.heappop(queue)[2]
                flying[executor.submit(run, wanted[key])] = key
            done, _ = wait(flying, LOOK_AROUND, return_when=FIRST_COMPLETED)
            for future in done:
                key = flying.pop(future)
                results[key] = _outcome(future, wanted[key])
                for step in list(waiting):
                    if any(job.spec.hash == key for job in step.jobs):
                        receive(step, key, fresh=True)
                    if step.ready:
                        waiting.remove(step)
                        advance(step)
    except BaseException:
        for future in flying:
            future.cancel()
        raise
    return rows


def _outcome(future: Future[RunResult], job: Job) -> RunResult:
    """What a run gave; where its workers died, a failure that says so, recorded like others."""
    try:
        return future.result()
    except WorkerLostError as error:
        result = lost(job.spec, error)
    with suppress(DiskFullError):  # it is tried again without a record, too
        StudyFolder(job.folder).write_run(result)
    return result
