"""Carry out rows over an executor: a run that several rows need is done once, and no worker is idle."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from tal_bench.errors import DiskFullError
from tal_bench.execution.failure import lost
from tal_bench.results.folder import StudyFolder
from tal_bench.results.records import RowRecord, RunResult
from tal_bench.studies.protocol import Protocol, RowSteps
from tal_bench.studies.run import Job, load_result, run
from tal_bench.system.worker_pool import UnopenedDeviceError, UnusableWorkerError, WorkerLostError

OnResult = Callable[[Sequence[str], RunResult, bool], None]
"""(rows that asked for it so far, result, whether it was computed now rather than found on disk)."""
POLL_SECONDS = 2.0
"""Seconds after which the scheduler asks again for the number of workers."""


@dataclass
class _RunningRow:
    """A row that waits for the results of its jobs, which other rows may share."""

    name: str
    steps: RowSteps
    priority: int
    results: dict[str, RunResult] = field(default_factory=dict)
    jobs: Sequence[Job] = ()

    def asks_for(self, key: str) -> bool:
        """Say whether the row waits for the run of this hash."""
        return any(job.spec.hash == key for job in self.jobs)

    @property
    def ready(self) -> bool:
        return all(job.spec.hash in self.results for job in self.jobs)

    def advance(self) -> RowRecord | None:
        """Send the results; return the finished row, or None when it yields more jobs."""
        results = [self.results[job.spec.hash] for job in self.jobs]
        try:
            self.jobs = self.steps.send(results) if self.jobs else next(self.steps)
            return None
        except StopIteration as stop:
            row: RowRecord = stop.value
            return row


def run_rows(
    rows: Sequence[tuple[str, RowSteps]],
    executor: Executor,
    workers: Callable[[], int],
    on_result: OnResult,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, RowRecord]:
    """Run all rows to their end.

    A run that failed, or whose workers died, is a result too; the others go on. Where no worker can open its
    device, no run can succeed, and the error goes on to the caller.

    Args:
        rows: Names and steps, the most urgent first.
        executor: Computes jobs.
        workers: Returns the number of jobs that are computed at a time, now.
        on_result: Called in this process once for every run, when its result is known.
        stop: Whether to begin no further job; running jobs are waited for.

    Returns:
        Name to finished row; rows that were stopped are missing.

    Raises:
        UnopenedDeviceError: No worker can open its device.
    """
    finished: dict[str, RowRecord] = {}
    results: dict[str, RunResult] = {}
    queue: list[tuple[int, int, str]] = []
    queued: dict[str, Job] = {}
    running: dict[Future[RunResult], str] = {}
    waiting: list[_RunningRow] = []

    def advance(row: _RunningRow) -> None:
        """Advance a row while its results are known, and queue the jobs that it yields next."""
        while True:
            record = row.advance()
            if record is not None:
                finished[row.name] = record
                return
            for job in row.jobs:
                key = job.spec.hash
                if key in results or key in queued:
                    continue
                known = load_result(job)
                if known is not None:
                    results[key] = known
                    on_result([row.name], known, False)
                else:
                    queued[key] = job
                    heapq.heappush(queue, (row.priority, len(queued), key))
            if not row.ready:
                waiting.append(row)
                return

    try:
        for priority, (name, steps) in enumerate(rows):
            advance(_RunningRow(name, steps, priority, results))
        while queue or running:
            if stop():
                queue.clear()
            while queue and len(running) < workers():
                key = heapq.heappop(queue)[2]
                running[executor.submit(run, queued[key])] = key
            done, _ = wait(running, POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                key = running.pop(future)
                results[key] = _result(future, queued[key])
                on_result([row.name for row in waiting if row.asks_for(key)], results[key], True)
                for row in list(waiting):
                    if row.ready:
                        waiting.remove(row)
                        advance(row)
    except BaseException:
        for future in running:
            future.cancel()
        raise
    return finished


def _result(future: Future[RunResult], job: Job) -> RunResult:
    """Return the result of a run; where its workers died, a recorded failure that says so."""
    try:
        return future.result()
    except UnopenedDeviceError:
        raise
    except (WorkerLostError, UnusableWorkerError) as error:
        result = lost(job.spec, error)
    with suppress(DiskFullError):  # the run is tried again without a record, too
        StudyFolder(job.folder).write_run(result)
    return result


@dataclass(frozen=True)
class Ended:
    """What is on disk of some rows.

    Attributes:
        results: Row name to hash to result, of every row.
        finished: Name to record of the rows that lack nothing.
    """

    results: dict[str, dict[str, RunResult]]
    finished: dict[str, RowRecord]


def results_on_disk(rows: Sequence[tuple[str, RowSteps]]) -> Ended:
    """Return the results that `run_rows` would find on disk; nothing is computed.

    Args:
        rows: Names and steps; a row is followed until it needs a result that is not there.
    """
    ended = Ended({}, {})
    for name, steps in rows:
        row = _RunningRow(name, steps, 0)
        record = None
        while row.ready and (record := row.advance()) is None:
            known = ((job.spec.hash, load_result(job)) for job in row.jobs)
            row.results |= {key: result for key, result in known if result is not None}
        ended.results[name] = row.results
        if record is not None:
            ended.finished[name] = record
    return ended


def missing_runs(protocol: Protocol) -> int:
    """Return how many runs of a study are not on disk, at most; nothing is computed.

    The front of a search is known only after it, and counts then.
    """
    ended = results_on_disk(protocol.rows())
    rows = [row for row in protocol.plan.rows if row.name not in ended.finished]
    planned = {run for row in rows for run in row.runs}
    found = {key for row in rows for key in ended.results[row.name]}
    members = [member for front in protocol.front_rows(ended.finished).values() for member in front]
    tested = results_on_disk(members).finished
    seeds = protocol.run_specs.budget.seeds
    return max(len(planned) - len(found), len(rows)) + seeds * (len(members) - len(tested))
