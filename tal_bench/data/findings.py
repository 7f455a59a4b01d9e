"""Problems found while reading or checking a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a dataset.

    Attributes:
        severity: `error` if the dataset cannot be read, else `warning`.
        kind: Short name of the kind of problem ("zero-length", "missing").
        file: File, and the video if the file has several.
        problem: Description of the problem, with the value found.
    """

    severity: Literal["error", "warning"]
    kind: str
    file: str
    problem: str
