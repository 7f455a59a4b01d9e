"""Copies from a GPU to the host that are made while the host does something else."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """Copy of a tensor in pinned memory of the host, begun at once; a tensor of the host is not copied.

    Args:
        source: Tensor, which may be changed by later operations on the current stream.
    """

    def __init__(self, source: Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        self._copy = source
        if source.is_cuda:
            self._copy = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
            self._copy.copy_(source, non_blocking=True)
            self._done = torch.cuda.Event(blocking=True)  # a waiting thread sleeps
            self._done.record()

    def wait(self) -> Tensor:
        """Return the copy once it is complete; may be called by several threads."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy
