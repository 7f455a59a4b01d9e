"""A server that is away holds nothing up, and gets everything in its order when it is back."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tal_bench.system import retry as patience
from tal_bench.system.retry import RetryQueue


class StepTimer:
    def __init__(self) -> None:
        self.now, self.slept = 1000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Server:
    def __init__(self) -> None:
        self.up, self.got, self.asked = True, list[Any](), 0

    def take(self, what: Any) -> None:
        self.asked += 1
        if not self.up:
            raise ConnectionError("connection refused\nat some length")
        self.got.append(what)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StepTimer:
    made = StepTimer()
    monkeypatch.setattr(patience, "time", made)
    return made


def test_what_was_missed_comes_later_in_its_order(clock: StepTimer, caplog: pytest.LogCaptureFixture) -> None:
    server, resets = Server(), list[None]()
    queue = RetryQueue("the server", lambda: resets.append(None))
    queue.submit(lambda: server.take(0))
    server.up = False
    with caplog.at_level(logging.WARNING):
        for number in range(1, 9):
            queue.submit(lambda number=number: server.take(number))  # type: ignore[misc]
            clock.now += 0.5
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1, "it warns once"
    assert "connection refused (tried again" in caplog.text
    assert server.asked < 6, "it is left alone for longer each time"
    assert len(resets) == server.asked - 1
    server.up = True
    assert queue.drain()
    assert server.got == list(range(9))


def test_pauses_double_up_to_a_minute(clock: StepTimer) -> None:
    server = Server()
    server.up = False
    queue = RetryQueue("the server")
    queue.submit(lambda: server.take(0))
    assert not queue.drain(400.0)
    assert clock.slept == [2, 4, 8, 16, 32, 60, 60, 60, 60, 60], "at the end it is asked at once"


def test_what_can_never_succeed_holds_up_nothing(clock: StepTimer, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()

    def wrong() -> None:
        raise KeyError("mistake")

    queue = RetryQueue("the server")
    with caplog.at_level(logging.WARNING):
        queue.submit(wrong)
    queue.submit(lambda: server.take(1))
    assert server.got == [1]
    assert "did not take something" in caplog.text
