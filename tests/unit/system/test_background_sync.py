"""A server that is down, slow or broken costs one warning; the next call repairs what it lacks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from tal_bench.system import background_sync
from tal_bench.system.background_sync import BackgroundSync


class Server:
    """Shows the newest number, if it is up."""

    def __init__(self) -> None:
        self.up, self.shown, self.requests = True, -1, 0

    def show(self, number: int) -> None:
        self.requests += 1
        if not self.up:
            raise ConnectionError("connection refused\nat some length")
        self.shown = number


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_sync, "PAUSE", 0.01)


def test_a_failure_warns_once_and_a_later_call_repairs_it(caplog: pytest.LogCaptureFixture) -> None:
    server, sync = Server(), BackgroundSync("the server")
    server.up = False
    for number in range(3):
        sync.request(lambda number=number: server.show(number))  # type: ignore[misc]
        wait_until(lambda number=number: server.requests > number)  # type: ignore[misc]
    assert len(warnings(caplog)) == 1
    assert "the server cannot be written: connection refused; results are on disk" in warnings(caplog)[0]
    server.up = True
    sync.request(lambda: server.show(3))
    wait_until(lambda: server.shown == 3)
    sync.close(lambda: server.show(4))
    assert server.shown == 4
    assert len(warnings(caplog)) == 1


def test_a_server_that_is_down_at_the_end_is_tried_again_for_a_moment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, sync = Server(), BackgroundSync("the server")
    server.up = False

    def recovers() -> None:
        server.up = server.requests == 2
        server.show(1)

    sync.close(recovers)
    assert (server.requests, server.shown) == (3, 1)
    server = Server()
    server.up = False
    BackgroundSync("the server").close(lambda: server.show(1))
    assert (server.requests, server.shown) == (3, -1)
    assert len(warnings(caplog)) == 2, "one for each"


def test_a_server_that_never_answers_blocks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    asked, answers = threading.Event(), threading.Event()

    def hang() -> None:
        asked.set()
        answers.wait(60)

    sync = BackgroundSync("postgresql://me:secret@host/db")
    started = time.monotonic()
    sync.request(hang)
    assert asked.wait(20)
    sync.close(lambda: None, wait=0.2)
    assert time.monotonic() - started < 5
    assert warnings(caplog)[0].startswith("postgresql://…@host/db cannot be written: no answer within 0.2 s")
    assert "secret" not in caplog.text
    answers.set()


def test_frequent_requests_are_few_calls_and_the_last_one_counts() -> None:
    server, sync = Server(), BackgroundSync("the server")
    started = time.monotonic()
    for number in range(200):

        def slow(number: int = number) -> None:
            time.sleep(0.02)
            server.show(number)

        sync.request(slow)
        time.sleep(0.002)
    assert server.requests <= 0.1 * (time.monotonic() - started) / 0.02 + 2, "a small share of the time"
    sync.close(lambda: server.show(999))
    assert server.shown == 999


def test_calls_are_repeated_at_an_interval() -> None:
    server, sync = Server(), BackgroundSync("the server", interval=0.01)
    sync.request(lambda: server.show(0))
    wait_until(lambda: server.requests > 3)
    sync.close(lambda: server.show(1))
    ended = server.requests
    time.sleep(0.1)
    assert server.requests == ended, "not after the end"
