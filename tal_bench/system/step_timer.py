"""Timer that adds up seconds by processing step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class StepTimer:
    """Timer that adds the time between two laps to a step.

    Attributes:
        now: Clock that returns seconds; by default the CPU time of this process, which excludes waiting.
        seconds: Accumulated seconds by step.
    """

    now: Callable[[], float] = time.process_time
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.now()

    def lap(self, step: str) -> None:
        """Add the time since the previous lap to ``step``."""
        now = self.now()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._last
        self._last = now
