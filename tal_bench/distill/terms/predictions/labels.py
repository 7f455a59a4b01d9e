"""Positive points of the batch, all levels in one row."""

from __future__ import annotations

import torch
from torch import Tensor

from tal_bench.types import StudentOutputs


def joined(levels: list[Tensor]) -> Tensor:
    """Return tensors [B, T_l, ...] of the levels one after the other, [B, sum of T_l, ...]."""
    return torch.cat(levels, dim=1)


def positives(student: StudentOutputs) -> Tensor:
    """Return which points of all levels have a class, [B, sum of T_l] bool; none where padded."""
    return joined(list(student.labels.positive)) & joined(student.mask)


def classes(student: StudentOutputs) -> Tensor:
    """Return the class of each point, [B, sum of T_l] int64; the first of several, 0 where there is none."""
    return joined(list(student.labels.classes)).argmax(dim=2)
