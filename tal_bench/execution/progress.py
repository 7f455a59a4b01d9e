"""Progress of the runs: a bar on a terminal, a line per run in a log."""

from __future__ import annotations

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
from tal_bench.system.text import printable

Shown = Callable[[Sequence[str], RunResult, bool], None]


@contextmanager
def run_progress(console: Console, total: int) -> Iterator[Shown]:
    """Yield a function (rows, result, fresh) that shows an ended run; one found on disk moves the bar only.

    A run counts once, also if it is shown again.
    """
    ended: set[str] = set()
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
            ended.add(result.hash)
            done = len(ended)
            text = describe(rows, result)
            display.update(task, completed=done, total=max(total, done), last=printable(text))
            if fresh and (result.status == "failed" or not console.is_terminal):
                print_line(console, f"[{done}/{max(total, done)}] {text}")

        yield show


def describe(rows: Sequence[str], result: RunResult) -> str:
    """One line on an ended run, and the first of the rows that asked for it."""
    split = "validation" if result.spec.phase == "tuning" else "test"
    others = len(rows) - 1
    more = f" and {others} other row{'s' * (others > 1)}" if others else ""
    who = result.spec.model if result.spec.model in rows else f"for {rows[0]}{more}: {result.spec.model}"
    seconds = sum(result.timings.values())
    if result.status == "failed":
        return f"{who} seed {result.spec.seed} failed: {result.error}"
    score = f"{split} mAP {result.metrics['map_avg']:.1f}" if "map_avg" in result.metrics else ""
    return f"{who} seed {result.spec.seed} {result.status}, {score} ({seconds:.0f} s)"
