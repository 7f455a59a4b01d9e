"""An unavailable server does not block calls and receives all of them in order once it is back."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tal_bench.system import retry
from tal_bench.system.retry import RetryQueue


class FakeClock:
    def __init__(self) -> None:
        self.now, self.slept = 1000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Server:
    def __init__(self) -> None:
        self.up, self.received, self.requests = True, list[Any](), 0

    def receive(self, value: Any) -> None:
        self.requests += 1
        if not self.up:
            raise ConnectionError("connection refused\nat some length")
        self.received.append(value)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(retry, "time", fake)
    return fake


def test_missed_calls_are_made_later_in_order(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    server, resets = Server(), list[None]()
    queue = RetryQueue("the server", lambda: resets.append(None))
    queue.submit(lambda: server.receive(0))
    server.up = False
    with caplog.at_level(logging.WARNING):
        for number in range(1, 9):
            queue.submit(lambda number=number: server.receive(number))  # type: ignore[misc]
            clock.now += 0.5
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1, "it warns once"
    assert "connection refused (will be retried" in caplog.text
    assert server.requests < 6, "the backoff grows"
    assert len(resets) == server.requests - 1
    server.up = True
    assert queue.drain()
    assert server.received == list(range(9))


def test_backoff_doubles_up_to_a_minute(clock: FakeClock) -> None:
    server = Server()
    server.up = False
    queue = RetryQueue("the server")
    queue.submit(lambda: server.receive(0))
    assert not queue.drain(400.0)
    assert clock.slept == [2, 4, 8, 16, 32, 60, 60, 60, 60, 60], "drain makes the first attempt at once"


def test_a_permanent_error_does_not_block(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    server = Server()

    def wrong() -> None:
        raise KeyError("mistake")

    queue = RetryQueue("the server")
    with caplog.at_level(logging.WARNING):
        queue.submit(wrong)
    queue.submit(lambda: server.receive(1))
    assert server.received == [1]
    assert "rejected a request" in caplog.text
