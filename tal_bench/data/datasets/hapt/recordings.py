"""What a recording is, and who was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

FPS = 50.0
"""Samples a second, of both sensors."""
SENSORS = ("acc", "gyro")
TEST_SUBJECTS = frozenset({2, 4, 9, 10, 12, 13, 18, 20, 24})
"""UCI's own."""
VALIDATION_SUBJECTS = frozenset({5, 16, 23, 29})
"""Held out of the training subjects while settings are chosen."""
LABELS = (
    "WALKING",
    "WALKING_UPSTAIRS",
    "WALKING_DOWNSTAIRS",
    "SITTING",
    "STANDING",
    "LAYING",
    "STAND_TO_SIT",
    "SIT_TO_STAND",
    "SIT_TO_LIE",
    "LIE_TO_SIT",
    "STAND_TO_LIE",
    "LIE_TO_STAND",
)
"""Activities by UCI's number less 1, spelled as its own file spells them."""
CITATION = (
    "Reyes-Ortiz, Oneto, Samà, Parra, Anguita: Transition-aware human activity recognition using "
    "smartphones. Neurocomputing 171, 2016"
)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One untrimmed recording of one person.

    Attributes:
        experiment: its number, from 1.
        user: the person's number, from 1.
        signals: sensor (`acc` in g, `gyro` in rad/s) to samples [N, 3] float64, axes x, y, z.
        segments: [S, 3] int64: activity (index into `LABELS`), first sample, one past the last sample.
    """

    experiment: int
    user: int
    signals: dict[str, NDArray[np.float64]]
    segments: NDArray[np.int64]

    @property
    def name(self) -> str:
        """As annotations and feature files know it; the person can be read from it."""
        return f"exp{self.experiment:02d}_user{self.user:02d}"

    @property
    def samples(self) -> int:
        """N, the same for both sensors."""
        return len(self.signals["acc"])

    @property
    def subset(self) -> str:
        """`training`, `validation` or `test`, by person."""
        if self.user in TEST_SUBJECTS:
            return "test"
        return "validation" if self.user in VALIDATION_SUBJECTS else "training"


def checked(recordings: Sequence[Recording], where: Any) -> list[Recording]:
    """Return the recordings in the order of their numbers.

    Raises:
        DataError: none, sensors of different length, numbers that are not finite, segments outside their
            recording, or unknown activities; the first is told, with how many recordings it concerns.
    """
    if not recordings:
        raise DataError("no recordings", where=where)
    wrong = [(r.name, problem) for r in recordings if (problem := _problem(r))]
    if wrong:
        name, problem = wrong[0]
        more = f"; {len(wrong) - 1} other recordings are wrong, too" if len(wrong) > 1 else ""
        raise DataError(f"{name}: {problem}{more}", where=where, hint="get the files again")
    return sorted(recordings, key=lambda r: r.experiment)


def _problem(recording: Recording) -> str:
    """What is wrong with a recording, or nothing."""
    lengths = {sensor: len(signal) for sensor, signal in recording.signals.items()}
    if len(set(lengths.values())) > 1:
        return " and ".join(f"{n} samples of {sensor}" for sensor, n in lengths.items())
    for sensor, signal in recording.signals.items():
        if not np.isfinite(signal).all():
            return f"{sensor} holds a number that is not finite"
    label, first, end = recording.segments.T
    unknown = (label < 0) | (label >= len(LABELS))
    if unknown.any():
        return f"activity {label[unknown][0] + 1} of {len(LABELS)}"
    outside = (first < 0) | (end <= first) | (end > recording.samples)
    if outside.any():
        a, b = first[outside][0] + 1, end[outside][0]
        return f"segment of samples {a} to {b} in a recording of {recording.samples}"
    return ""
