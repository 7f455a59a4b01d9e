"""Outputs of teachers that this process has computed for earlier trainings.

All tuning runs of a row have one seed, hence the same batches, and variants share teachers. Their outputs are
kept in memory up to a limit and identified by content: the weights of all teachers of a run, and the features
of the batches. Reused outputs are those that would be computed again, so results do not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

LIMIT = 256 * 2**20
"""Largest size of a cache in bytes; every worker process has one."""


class TeacherCache:
    """Tensors by the teachers of a run, a batch and a name; those of the teachers used last are kept.

    Args:
        limit: Largest number of bytes of all tensors.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[str, dict[Hashable, list[Tensor]]] = {}
        self.nbytes = 0

    def get(
        self, teachers: str, batch: Hashable, name: str, compute: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """Return kept tensors, or compute them and keep them if there is room.

        Outputs for other teachers make room, those used least recently first. Where the outputs of one run
        exceed the limit, the first ones are kept, since every training reads them in the same order.
        """
        key = batch, name
        kept = self._kept.pop(teachers, {})
        self._kept[teachers] = kept  # now the last one
        if key not in kept:
            value = compute()
            size = sum(x.nbytes for x in value)
            while self.nbytes + size > self._limit and len(self._kept) > 1:
                oldest = self._kept.pop(next(iter(self._kept)))
                self.nbytes -= sum(x.nbytes for tensors in oldest.values() for x in tensors)
            if self.nbytes + size > self._limit:
                return value
            kept[key] = value
            self.nbytes += size
        return kept[key]


def digest(tensors: Mapping[str, Tensor], *more: object) -> str:
    """Return the SHA-256 of tensors by name, and of the text of further values."""
    found = hashlib.sha256(repr(more).encode())
    for name, x in tensors.items():
        found.update(repr((name, x.dtype, tuple(x.shape))).encode())
        found.update(x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
