"""Process many items in this process, or in worker processes of one thread each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TypeVar

import cv2
import torch

from tal_bench.system.allocator import keep_freed_memory
from tal_bench.system.gpus import worker_environments
from tal_bench.system.worker_pool import LocalWorkerPool, WorkerLostError

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch and OpenCV on one thread, so that results do not depend on the number of cores."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    use_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)


def use_one_thread() -> None:
    """Set this process to one thread, and keep freed memory for reuse, until it ends."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()


def map_items(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    crashed: Callable[[Item], Result],
    device: str = "cpu",
) -> Generator[Result]:
    """Yield the result of every item, in the order of completion.

    If a worker process dies (crash in a codec, lack of memory), only its item is affected. A new process
    tries it again, in the end without other processes beside it.

    Args:
        work: Importable function with picklable arguments and results.
        items: Arguments, one per call.
        jobs: Number of processes; 1 is the current process. More are spawned, so a script needs
            ``if __name__ == "__main__":``.
        crashed: Function that returns the result of an item whose process died at every attempt.
        device: `cuda` gives every process one GPU, also a single one: a failure may make it useless.
    """
    if device == "cpu" and (jobs == 1 or len(items) < 2):
        with one_thread():
            for item in items:
                yield work(item)
        return
    if not items:  # a resumed command may have nothing left to do
        return
    jobs = min(jobs, len(items))
    environments = worker_environments(jobs) if device == "cuda" else []
    pool = LocalWorkerPool(jobs, use_one_thread, environments=environments)
    waiting, running, suspects = list(items), dict[Future[Result], Item](), list[Item]()
    try:
        while waiting or running:
            while waiting and len(running) < pool.size():
                item = waiting.pop(0)
                running[pool.submit(work, item)] = item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    yield future.result()
                except WorkerLostError:
                    suspects.append(item)
    finally:
        pool.terminate()
    for item in suspects:
        single = LocalWorkerPool(1, use_one_thread, environments=environments)
        try:
            yield single.submit(work, item).result()
        except WorkerLostError:
            yield crashed(item)
        finally:
            single.terminate()
