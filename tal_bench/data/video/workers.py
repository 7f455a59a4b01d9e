"""Work on many videos: in this process, or in others with one thread each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2
import torch

from tal_bench.allocator import keep_freed_memory
from tal_bench.processes import Workers

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch and OpenCV on one thread: results are then the same on every number of cores."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    _settle()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)


def _settle() -> None:
    """Make this process one for video: one thread, and memory that it keeps (for good)."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()


def work_through(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, crashed: Callable[[Item], Result]
) -> Generator[Result]:
    """Results as they come.

    A process that dies, in a codec that crashes or for want of memory, takes the others' work with it. Each
    item that was under way is then tried again in a process of its own.

    Args:
        work: importable by name; its arguments and results can be pickled.
        items: what to work on.
        jobs: processes; 1 is this one. Others are spawned: a script needs ``if __name__ == "__main__":``.
        crashed: what an item gives whose own process died.
    """
    if jobs == 1 or len(items) < 2:
        with one_thread():
            for item in items:
                yield work(item)
        return
    waiting = list(items)
    while waiting:
        suspects: list[Item] = []
        yield from _in_pool(work, waiting, min(jobs, len(waiting)), suspects)
        for item in suspects:
            alone: list[Item] = []
            yield from _in_pool(work, [item], 1, alone)
            yield from map(crashed, alone)


def _in_pool(
    work: Callable[[Item], Result], waiting: list[Item], jobs: int, suspects: list[Item]
) -> Iterator[Result]:
    """Results until all is done or a process dies; what was under way then is left in ``suspects``."""
    pool = Workers(jobs, _settle)
    running: dict[Future[Any], Item] = {}
    try:
        while (waiting or running) and not suspects:
            while waiting and len(running) < jobs:
                running[pool.submit(work, waiting[0])] = waiting[0]
                del waiting[0]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    suspects.append(item)
        suspects += running.values()
    except BrokenProcessPool:  # noticed while the next item was handed over
        suspects += running.values()
    finally:
        pool.abandon()
