"""Tests of prefetching: order, exceptions and the end of the thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tal_bench.data.prefetch import mapped_in_threads, prefetched


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


def test_threads_work_ahead_and_results_keep_their_order() -> None:
    gate, read = threading.Event(), list[int]()

    def items() -> Iterator[int]:
        for i in range(9):
            read.append(i)
            yield i

    def slow_first(i: int) -> int:
        if i == 0:
            assert gate.wait(timeout=10)
        else:
            gate.set()
        return 2 * i

    coming = mapped_in_threads(slow_first, items(), threads=2, ahead=3)
    assert next(coming) == 0, "another thread computes the second meanwhile"
    assert read == [0, 1, 2, 3]
    assert list(coming) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert list(mapped_in_threads(slow_first, [], threads=2, ahead=3)) == []


def test_an_exception_in_a_thread_ends_the_iteration_and_its_threads() -> None:
    before, read = threading.active_count(), list[int]()

    def items() -> Iterator[int]:
        for i in range(100):
            read.append(i)
            yield i

    coming = mapped_in_threads(lambda i: 1 // (2 - i), items(), threads=2, ahead=4)
    assert [next(coming), next(coming)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(coming)
    assert len(read) < 10
    assert threading.active_count() == before
