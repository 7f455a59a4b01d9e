"""Preparation of the next item in a thread while the current one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], prepare: Callable[[T], T]) -> Iterator[T]:
    """Yield the prepared items in their order; a thread prepares the next item in advance.

    An exception raised while an item is read or prepared is raised when that item is requested.
    """
    iterator = iter(items)

    def prepare_next() -> tuple[T] | None:
        for item in iterator:
            return (prepare(item),)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        future = pool.submit(prepare_next)
        while result := future.result():
            future = pool.submit(prepare_next)
            yield result[0]
