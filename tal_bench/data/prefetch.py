"""Work on items in threads while others are used: preparation of the next one, or several at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetched(items: Iterable[T], prepare: Callable[[T], R]) -> Iterator[R]:
    """Yield the prepared items in their order; a thread prepares the next item in advance.

    An exception raised while an item is read or prepared is raised when that item is requested.
    """
    iterator = iter(items)

    def prepare_next() -> tuple[R] | None:
        for item in iterator:
            return (prepare(item),)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        future = pool.submit(prepare_next)
        while result := future.result():
            future = pool.submit(prepare_next)
            yield result[0]


def mapped_in_threads(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int
) -> Iterator[R]:
    """Yield the function of each item in the order of the items; threads compute it in advance.

    The calling thread reads the items, at most ``ahead`` more than results have been requested. An exception
    of the function is raised when its result is requested; no further item is read then.

    Args:
        function: Function that threads may call at the same time.
        items: Items.
        threads: Number of threads.
        ahead: Largest number of items that wait for their results to be requested.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mapped")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
