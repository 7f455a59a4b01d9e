"""One item ahead, in order, and no thread left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tal_bench.data.prefetch import prefetched


def test_items_come_prepared_in_their_order() -> None:
    assert list(prefetched(range(5), lambda x: 2 * x)) == [0, 2, 4, 6, 8]
    assert list(prefetched([], lambda x: x)) == []


def test_the_next_item_is_made_while_the_present_one_is_used() -> None:
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


def test_what_goes_wrong_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    coming = prefetched(items(), lambda x: x)
    assert next(coming) == 1
    with pytest.raises(ValueError, match="broken"):
        next(coming)


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    coming = prefetched(iter(range(100)), lambda x: x)
    next(coming)
    coming.close()
    assert threading.active_count() == before
