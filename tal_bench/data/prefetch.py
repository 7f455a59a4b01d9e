"""The next batch is read and padded while the present one is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], prepare: Callable[[T], T]) -> Iterator[T]:
    """The items, prepared, in their order; one thread is one item ahead.

    What goes wrong in reading is raised where the item would have come.
    """
    iterator = iter(items)

    def following() -> tuple[T] | None:
        for item in iterator:
            return (prepare(item),)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        coming = pool.submit(following)
        while found := coming.result():
            coming = pool.submit(following)
            yield found[0]
