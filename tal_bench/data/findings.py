"""What reading and checking a dataset has to say of it, one problem at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes:
        severity: an `error` keeps the dataset from being read, a `warning` does not.
        kind: short name that problems of the same sort share ("zero-length", "missing").
        file: the file, and the video in it where the file holds several.
        problem: what is wrong, with the value found.
    """

    severity: Literal["error", "warning"]
    kind: str
    file: str
    problem: str
