"""Where the time goes: seconds of work, by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class StepTimer:
    """Seconds since the last lap, added up by step.

    Attributes:
        now: what is read; by default the CPU time of this process, which waiting does not count in.
        seconds: step to seconds so far.
    """

    now: Callable[[], float] = time.process_time
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.now()

    def lap(self, step: str) -> None:
        """Add the time since the last lap to ``step``."""
        now = self.now()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now
