"""Work for a server that may be away: kept, and done when it is back; it never holds up a study."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable

LOG = logging.getLogger(__name__)
FIRST, LONGEST = 1.0, 60.0
"""Seconds for which a server that failed is left alone: at first, and after doubling at most."""
AT_THE_END = 20.0
"""Seconds that an ended study waits for a server."""
Work = Callable[[], None]
MISTAKES = (TypeError, KeyError, IndexError, AttributeError, AssertionError, ValueError)
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")
"""What MLflow answers to a request that it will never take."""


class RetryQueue:
    """Does work in its order; what fails waits, with all that comes after it, and is tried again.

    Work must bear being done again after it failed halfway. What can never succeed is left out.

    Args:
        what: is written, for the warning; for instance `MLflow at http://...`.
        reset: called after a failure, before the work is tried again.
    """

    def __init__(self, what: str, reset: Work = lambda: None) -> None:
        self._what, self._reset = what, reset
        self._waiting: deque[Work] = deque()
        self._pause, self._quiet_until = FIRST, 0.0
        self._warned = False

    def submit(self, work: Work) -> None:
        """Do it now or, if the server is away, later."""
        self._waiting.append(work)
        if time.monotonic() >= self._quiet_until:
            self._work_off()

    def drain(self, patience: float | None = None) -> bool:
        """Do what is left.

        Args:
            patience: seconds that it may take while the server is away.

        Returns:
            Whether nothing is left.
        """
        deadline = time.monotonic() + (AT_THE_END if patience is None else patience)
        while not self._work_off():
            if self._quiet_until > deadline:
                return False
            time.sleep(max(0.0, self._quiet_until - time.monotonic()))
        return True

    def _work_off(self) -> bool:
        while self._waiting:
            try:
                self._waiting[0]()
            except Exception as error:  # whatever a server, a database or a network can raise
                self._reset()
                if not is_permanent(error):
                    self._leave_alone(error)
                    return False
                LOG.warning("%s did not take something: %s", self._what, _line(error))
            else:
                self._pause = FIRST
            self._waiting.popleft()
        return True

    def _leave_alone(self, error: Exception) -> None:
        self._quiet_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST)
        if not self._warned:
            self._warned = True
            LOG.warning(
                "%s cannot be written: %s (tried again; results are on disk, and logged at the latest when "
                "the study starts again)",
                self._what,
                _line(error),
            )


def is_permanent(error: Exception) -> bool:
    """Whether trying again is of no use."""
    return isinstance(error, MISTAKES) or getattr(error, "error_code", "") in REFUSALS


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
