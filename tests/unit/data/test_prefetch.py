"""Tests of prefetching: order, exceptions and the end of the thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tal_bench.data.prefetch import prefetched


def test_items_are_prepared_in_order() -> None:
    assert list(prefetched(range(5), lambda x: 2 * x)) == [0, 2, 4, 6, 8]
    assert list(prefetched([], lambda x: x)) == []


def test_next_item_is_prepared_in_advance() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            made[i].set()
            yield i

    coming = prefetched(items(), lambda x: x)
    assert next(coming) == 0
    assert made[1].wait(timeout=10)
    assert not made[2].is_set()
    coming.close()


def test_exceptions_are_raised_in_order() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    coming = prefetched(items(), lambda x: x)
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def test_no_thread_is_left_when_iteration_stops_early() -> None:
    before = threading.active_count()
    coming = prefetched(iter(range(100)), lambda x: x)
    next(coming)
    coming.close()
    assert threading.active_count() == before
