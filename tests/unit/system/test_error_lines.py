"""Messages of errors on one line."""

from __future__ import annotations

import pytest

from tal_bench.system.text import first_line, typed_line


@pytest.mark.parametrize(
    ("error", "first", "typed"),
    [
        (OSError("no\nroute"), "no", "OSError: no"),
        (
            RuntimeError("\n  out of memory \r\nTried to allocate"),
            "out of memory",
            "RuntimeError: out of memory",
        ),
        (AssertionError(), "AssertionError", "AssertionError"),
        (ValueError(" \n "), "ValueError", "ValueError"),
    ],
)
def test_an_error_becomes_one_line(error: Exception, first: str, typed: str) -> None:
    assert first_line(error) == first
    assert typed_line(error) == typed


def test_a_long_message_is_cut() -> None:
    assert first_line(OSError("x" * 999), 150) == "x" * 150
    assert typed_line(OSError("x" * 999), 2) == "OSError: xx"
