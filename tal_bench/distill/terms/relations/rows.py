"""Rows of the relation terms: time steps of the neck, at most 64 of each level."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tal_bench.distill.losses.relations.rows import time_rows
from tal_bench.types import Outputs, StudentOutputs

ROWS = 64
"""Largest number of rows; of longer levels every k-th step is taken, as costs grow with R^2 or R^3."""


def neck_rows(student: StudentOutputs, teacher: Outputs) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield rows of student and teacher [B, R, C] and which count [B, R], level by level."""
    for s, t, m in zip(student.features["neck"], teacher.features["neck"], student.mask, strict=True):
        step = -(-m.shape[1] // ROWS)
        mask = m[:, ::step]
        rows, valid = time_rows(s[:, :, ::step], mask)
        yield rows, time_rows(t[:, :, ::step], mask)[0], valid
