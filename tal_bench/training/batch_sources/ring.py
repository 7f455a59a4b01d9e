"""Batches that threads read into pinned memory and that are copied to a GPU while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import torch

from tal_bench.data.batches import Crops, collate
from tal_bench.data.prefetch import mapped_in_threads
from tal_bench.system.cpu_count import usable_cores
from tal_bench.training.device import Device, batch_tensors
from tal_bench.types import Batch

AHEAD = 4
"""Batches that are read, or being read, before they are needed."""
THREADS = 4
"""Largest number of threads that read."""
Send = Callable[[Batch], Callable[[], Batch]]
"""Function that begins to copy a batch to the device, and returns a function that returns it there."""


def pinned_ring(
    drawn: Iterable[Crops], modalities: Sequence[str], device: Device, send: Send
) -> Iterator[Batch]:
    """Yield batches on the GPU; the next one is copied, and later ones are read, while one is used.

    PyTorch keeps pinned memory and uses it again once the copy from it is complete, so after some batches
    nothing is allocated.

    Args:
        drawn: Crops of the batches.
        modalities: Streams to read.
        device: The GPU.
        send: What copies, such as `CopyStream.send`.
    """

    def read(crops: Crops) -> Batch:
        return device.pin(collate(crops, modalities, pinned=device.torch.type == "cuda"))

    waiting: Callable[[], Batch] | None = None
    threads = min(THREADS, usable_cores())
    for batch in mapped_in_threads(read, drawn, threads=threads, ahead=AHEAD):
        following = send(batch)
        if waiting is not None:
            yield waiting()
        waiting = following
    if waiting is not None:
        yield waiting()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the process's stream for copies: memory that a stream has freed serves that stream alone."""
    return torch.cuda.Stream(device)


class CopyStream:
    """Copies batches to a GPU on a stream beside that of the computation.

    Args:
        device: The GPU.
    """

    def __init__(self, device: Device) -> None:
        self._device, self._stream = device, _stream(device.torch)

    def send(self, batch: Batch) -> Callable[[], Batch]:
        """Begin to copy a batch; the returned function has the current stream wait for it, not the host."""
        with torch.cuda.stream(self._stream):
            moved = self._device.move(batch)
        return partial(self._receive, moved, self._stream.record_event())

    def _receive(self, batch: Batch, sent: torch.cuda.Event) -> Batch:
        current = torch.cuda.current_stream(self._device.torch)
        current.wait_event(sent)
        for x in batch_tensors(batch).values():
            x.record_stream(current)  # else its memory would be given away as soon as the copies allow it
        return batch
