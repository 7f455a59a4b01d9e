"""Queue of calls to a server that may be unavailable. Failed calls are retried; they never block a study."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

LOG = logging.getLogger(__name__)
MIN_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds without requests after a failure. The time doubles with every further failure."""
DRAIN_TIMEOUT = 20.0
"""Seconds that an ended study waits for a server."""
Call = Callable[[], object]
PERMANENT_ERRORS = (NameError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ValueError)
PERMANENT_CODES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
"""Error codes of MLflow for requests that it will never accept."""


class RetryQueue:
    """Make calls in the order of their submission; a failed call and all after it are retried later.

    Calls must tolerate being repeated after a partial failure. A call that can never succeed is dropped with
    a warning.

    Args:
        target: Name of the server or database for warnings, for instance `MLflow at http://...`.
        reset: Function called after each failure.
    """

    def __init__(self, target: str, reset: Call = lambda: None) -> None:
        self._target, self._reset = target, reset
        self._pending: deque[Call] = deque()
        self._backoff, self._retry_at = MIN_BACKOFF, 0.0
        self._warned = False

    def submit(self, call: Call) -> None:
        """Make a call now or, if the server is unavailable, later."""
        self._pending.append(call)
        if time.monotonic() >= self._retry_at:
            self._try_pending()

    def replace(self, call: Call) -> None:
        """Drop the pending calls, which this one makes needless, and submit it."""
        self._pending.clear()
        self.submit(call)

    def drain(self, timeout: float | None = None) -> bool:
        """Make all pending calls, and retry them until the timeout while the server is unavailable.

        Args:
            timeout: Seconds after which no further attempt is made; `DRAIN_TIMEOUT` if None.

        Returns:
            Whether all calls have been made.
        """
        deadline = time.monotonic() + (DRAIN_TIMEOUT if timeout is None else timeout)
        while not self._try_pending():
            if self._retry_at > deadline:
                return False
            time.sleep(max(0.0, self._retry_at - time.monotonic()))
        return True

    def _try_pending(self) -> bool:
        while self._pending:
            try:
                self._pending[0]()
            except Exception as error:  # servers, databases and networks raise many types
                self._reset()
                if not is_permanent(error):
                    self._back_off(error)
                    return False
                LOG.warning("%s rejected a request: %s", self._target, first_line(error))
            else:
                self._backoff = MIN_BACKOFF
            self._pending.popleft()
        return True

    def _back_off(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, MAX_BACKOFF)
        if not self._warned:
            self._warned = True
            LOG.warning(
                "%s cannot be written: %s (will be retried; results are on disk and are logged at the latest "
                "when the study is started again)",
                self._target,
                first_line(error),
            )


def is_permanent(error: Exception) -> bool:
    """Return whether retrying is useless."""
    return isinstance(error, PERMANENT_ERRORS) or getattr(error, "error_code", "") in PERMANENT_CODES


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened, or the name of its type."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
