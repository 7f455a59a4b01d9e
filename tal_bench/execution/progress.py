"""Progress of the runs: a bar on a terminal, a line per run in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tal_bench.results.records import RunResult
from tal_bench.system.console import print_line
from tal_bench.system.text import duration, printable

ESTIMATE_FROM = 3
"""Number of ended runs from which the remaining time is estimated in a log."""
Shown = Callable[[Sequence[str], RunResult, bool], None]


@contextmanager
def run_progress(console: Console, total: int) -> Iterator[Shown]:
    """Yield a function (rows, result, fresh) that shows an ended run; one found on disk moves the bar only.

    A run counts once, also if it is shown again.
    """
    ended: set[str] = set()
    computed: set[str] = set()
    started = time.monotonic()
    with Progress(
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as display:
        task = display.add_task("", total=total, last="")

        def show(rows: Sequence[str], result: RunResult, fresh: bool) -> None:
            if fresh and result.hash not in ended:
                computed.add(result.hash)
            ended.add(result.hash)
            done = len(ended)
            text = describe(rows, result)
            display.update(task, completed=done, total=max(total, done), last=printable(text))
            if fresh and (result.status == "failed" or not console.is_terminal):
                left = remaining(time.monotonic() - started, len(computed), total - done)
                print_line(console, f"[{done}/{max(total, done)}{left}] {text}")

        yield show


def remaining(elapsed: float, computed: int, missing: int) -> str:
    """Return `, about 5 min left` by the mean time of the runs so far; empty after few runs.

    Runs differ in length, and rows whose tuning stops early need fewer of them than were planned.
    """
    if computed < ESTIMATE_FROM or missing <= 0:
        return ""
    return f", about {duration(elapsed / computed * missing)} left"


def describe(rows: Sequence[str], result: RunResult) -> str:
    """One line on an ended run: its phase, the rows that need it, its model, its score and its time."""
    spec = result.spec
    what, split = ("tuning", "validation") if spec.phase == "tuning" else ("training", "test")
    others = len(rows) - 1
    more = f" and {others} other row{'s' * (others > 1)}" if others else ""
    who = spec.model if spec.model in rows else f"for {rows[0]}{more}: {spec.model}"
    run = f"{what} {who} seed {spec.seed}"
    if result.status == "failed":
        return f"{run} failed: {result.error}"
    score = f"{split} mAP {result.metrics['map_avg']:.1f}" if "map_avg" in result.metrics else "no score"
    pruned = "pruned at " if result.status == "pruned" else ""
    return f"{run}, {pruned}{score} ({duration(sum(result.timings.values()))})"
