"""Recordings, their classes and the split of the subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

FPS = 50.0
"""Samples per second of both sensors."""
SENSORS = ("acc", "gyro")
TEST_SUBJECTS = frozenset({2, 4, 9, 10, 12, 13, 18, 20, 24})
"""Test subjects of UCI's split."""
VALIDATION_SUBJECTS = frozenset({5, 16, 23, 29})
"""Training subjects that are held out for tuning."""
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
"""Activities, indexed by UCI's number minus 1 and spelled as in UCI's file."""
CITATION = (
    "Reyes-Ortiz, Oneto, Samà, Parra, Anguita: Transition-aware human activity recognition using "
    "smartphones. Neurocomputing 171, 2016"
)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Untrimmed recording of one person.

    Attributes:
        experiment: Number of the recording, from 1.
        user: Number of the person, from 1.
        signals: Samples [N, 3] float64 of the axes x, y, z by sensor (`acc` in g, `gyro` in rad/s).
        segments: Activity (index into `LABELS`), first sample and sample after the last one, [S, 3] int64.
    """

    experiment: int
    user: int
    signals: dict[str, NDArray[np.float64]]
    segments: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Name in annotations and feature files, which includes the number of the person."""
        return f"exp{self.experiment:02d}_user{self.user:02d}"

    @property
    def samples(self) -> int:
        """N, the number of samples of both sensors."""
        return len(self.signals["acc"])

    @property
    def subset(self) -> str:
        """Subset of the person: `training`, `validation` or `test`."""
        if self.user in TEST_SUBJECTS:
            return "test"
        return "validation" if self.user in VALIDATION_SUBJECTS else "training"


def validated(recordings: Sequence[Recording], where: Any) -> list[Recording]:
    """Validate recordings and return them in the order of their numbers.

    Raises:
        DataError: There are no recordings, or a recording has sensors of different length, values that are
            not finite, segments outside the recording, or unknown activities. The message describes the first
            problem and counts the invalid recordings.
    """
    if not recordings:
        raise DataError("no recordings", where=where)
    invalid = [(r.name, problem) for r in recordings if (problem := _problem(r))]
    if invalid:
        name, problem = invalid[0]
        more = f"; {len(invalid) - 1} other recordings are invalid" if len(invalid) > 1 else ""
        raise DataError(f"{name}: {problem}{more}", where=where, hint="download the files again")
    return sorted(recordings, key=lambda r: r.experiment)


def _problem(recording: Recording) -> str:
    """Return the first problem of a recording, or an empty string."""
    lengths = {sensor: len(signal) for sensor, signal in recording.signals.items()}
    if len(set(lengths.values())) > 1:
        return " and ".join(f"{n} samples of {sensor}" for sensor, n in lengths.items())
    for sensor, signal in recording.signals.items():
        if not np.isfinite(signal).all():
            return f"{sensor} has a value that is not finite"
    label, first, end = recording.segments.T
    unknown = (label < 0) | (label >= len(LABELS))
    if unknown.any():
        return f"unknown activity {label[unknown][0] + 1}, expected 1 to {len(LABELS)}"
    outside = (first < 0) | (end <= first) | (end > recording.samples)
    if outside.any():
        a, b = first[outside][0] + 1, end[outside][0]
        return f"segment from sample {a} to {b} in a recording of {recording.samples} samples"
    return ""
