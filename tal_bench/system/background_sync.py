"""Copies of results on servers that may be down, slow or broken, kept up to date by a thread."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from tal_bench.system.text import first_line

LOG = logging.getLogger(__name__)
SHARE = 0.1
"""Largest share of the time that is spent on copying while a study runs."""
LAST_TRIES, PAUSE = 3, 1.0
"""Number of attempts at the last call, and seconds between two of them."""
LAST_WAIT = 60.0
"""Seconds that an ended study waits for its last call."""
Sync = Callable[[], None]
"""Idempotent function that makes a server show the current results; it repairs what a failed call left."""


class BackgroundSync:
    """Calls idempotent functions in a thread, so that a server costs its user neither time nor results.

    The first failure is a warning; the following calls repair what it left out.

    Args:
        target: Name of the server or database for warnings, for instance `MLflow at http://...`.
        interval: Seconds after which the last function is called again without a request; None for never.
    """

    def __init__(self, target: str, interval: float | None = None) -> None:
        self._target, self._interval = target, interval
        self._sync: Sync = lambda: None
        self._requested, self._closing = threading.Event(), threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="background sync")
        self._thread.start()

    def request(self, sync: Sync) -> None:
        """Have a function called soon, in place of an earlier one that still waits; returns at once."""
        self._sync = sync
        self._requested.set()

    def close(self, sync: Sync, wait: float = LAST_WAIT) -> None:
        """Call a last function, and wait at most so many seconds for it and for what is going on."""
        self._sync = sync
        self._closing.set()
        self._requested.set()
        self._thread.join(wait)
        if self._thread.is_alive():
            self._warn(f"no answer within {wait:g} s")

    def _run(self) -> None:
        while True:
            self._requested.wait(self._interval)
            if self._closing.is_set():
                break
            self._requested.clear()
            started = time.monotonic()
            self._try()
            self._closing.wait((time.monotonic() - started) / SHARE)
        for _ in range(LAST_TRIES):
            if self._try():
                break
            time.sleep(PAUSE)

    def _try(self) -> bool:
        """Call the function; return whether it succeeded."""
        try:
            self._sync()
        except Exception as error:  # servers, databases and networks raise many types
            self._warn(first_line(error))
            return False
        return True

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            text = (
                f"{self._target} cannot be written: {why}; results are on disk, and what is missing is sent "
            )
            text += "later in this study, or when the same command is run again"
            LOG.warning("%s", re.sub(r"//[^@/\s]*@", "//…@", text))  # no password
