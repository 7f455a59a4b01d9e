"""Outputs of teachers for several batches at once, kept for later trainings.

A forward pass of a small network is mostly overhead, so teachers read up to `AHEAD` batches in one pass. All
tuning runs of a row have one seed, hence the same batches, and variants share teachers: a `TeacherCache`
keeps their outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F

from tal_bench.training.device import Device
from tal_bench.training.teacher_cache import TeacherCache, digest
from tal_bench.training.teachers import Teachers
from tal_bench.types import Batch, Outputs, WithoutHeadLayers

AHEAD = 8
"""Largest number of batches that teachers read in one forward pass."""
AHEAD_BYTES = 2**25
"""Largest size of the features of these batches; larger ones keep a device busy by themselves."""
Memory = Callable[[str, Callable[[], list[Tensor]]], list[Tensor]]
"""Function (name, compute) -> tensors of that name, which are computed unless they are known."""


def outputs_ahead(
    teachers: Teachers, batches: Iterable[Batch], device: Device, cache: TeacherCache | None = None
) -> Iterator[tuple[Batch, dict[str, Outputs] | None]]:
    """Yield every batch with the outputs of the teachers by role.

    They are None where terms read more than a detector's outputs (neck, layers of the heads): these features
    are large, and a training step computes them itself.

    Args:
        teachers: Teachers, which may be none.
        batches: Batches of the training.
        device: Device of the training.
        cache: Keeps outputs that are computed on the CPU; None means that nothing is kept.
    """
    if not teachers.networks:
        yield from ((batch, {}) for batch in batches)
        return
    if teachers.keep:
        yield from ((batch, None) for batch in batches)
        return
    run = None
    if cache is not None and device.torch.type == "cpu":
        run = teachers.identity
    for on_host in _groups(batches):
        group = [device.move(batch) for batch in on_host]
        joined = _joined(group)
        answers = teachers(joined)
        if cache is not None and run is not None:
            answers = _kept(answers, joined, run, cache)
        first = 0
        for batch in group:
            rows = slice(first, first + len(batch.mask))
            first = rows.stop
            lengths = batch.mask.shape[1], joined.mask.shape[1]
            yield batch, {role: PartOfOutputs(x, rows, *lengths) for role, x in answers.items()}


def _groups(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Divide batches into groups of `AHEAD`, or of fewer that have `AHEAD_BYTES` together."""
    iterator = iter(batches)
    for first in iterator:
        size = sum(x.nbytes for x in first.features.values())
        yield [first, *islice(iterator, max(1, min(AHEAD, AHEAD_BYTES // size)) - 1)]


def _joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch of all, padded to the longest."""
    if len(batches) == 1:
        return batches[0]
    length = max(batch.mask.shape[1] for batch in batches)

    def join(parts: list[Tensor]) -> Tensor:
        return torch.cat([F.pad(x, (0, 0, 0, length - x.shape[1])) for x in parts])

    features = {
        name: join([batch.features[name].transpose(1, 2) for batch in batches]).transpose(1, 2)
        for name in batches[0].features
    }
    mask = join([batch.mask[:, :, None] for batch in batches])[:, :, 0]
    segments, labels = (
        torch.cat(parts) for parts in ([x.segments for x in batches], [x.labels for x in batches])
    )
    return Batch(features, mask, segments, labels, [video for batch in batches for video in batch.videos])


def _kept(answers: dict[str, Outputs], batch: Batch, run: str, cache: TeacherCache) -> dict[str, Outputs]:
    """Return outputs that are computed only where the cache does not have them."""
    content = digest({**batch.features, "mask": batch.mask})
    distinct = {id(x): x for x in answers.values()}
    kept = {
        key: KeptOutputs(x, partial(cache.get, run, (number, content)))
        for number, (key, x) in enumerate(distinct.items())
    }
    return {role: kept[id(x)] for role, x in answers.items()}


class PlainOutputs(WithoutHeadLayers):
    """Outputs without further features, which `outputs_ahead` leaves to the training step."""

    @property
    def features(self) -> Mapping[str, list[Tensor]]:
        """No features."""
        return {}


class KeptOutputs(PlainOutputs):
    """Outputs that are remembered: stem, and outputs of the heads. Inputs are not, which are cheap.

    Args:
        source: Outputs that compute what is read.
        memory: Function (name, compute) -> tensors of that name.
    """

    def __init__(self, source: Outputs, memory: Memory) -> None:
        self._source, self._memory = source, memory

    @property
    def inputs(self) -> Tensor:
        """Inputs [B, C, T]."""
        return self._source.inputs

    @cached_property
    def stem(self) -> Tensor:
        """Features [B, D, T] before the first stride."""
        return self._memory("stem", lambda: [self._source.stem])[0]

    @cached_property
    def logits(self) -> list[Tensor]:
        """Logits [B, T_l, K] per level."""
        return self._memory("logits", lambda: self._source.logits)

    @cached_property
    def offsets(self) -> list[Tensor]:
        """Offsets [B, T_l, 2], or [B, T_l, K, 2], per level."""
        return self._memory("offsets", lambda: self._source.offsets)

    @cached_property
    def mask(self) -> list[Tensor]:
        """Masks [B, T_l] bool per level."""
        return self._memory("mask", lambda: self._source.mask)


class PartOfOutputs(PlainOutputs):
    """Outputs of one of several batches that were read at once.

    Args:
        whole: Outputs for all of them.
        rows: Rows of the batch.
        length: T of the batch.
        joined_length: T of all batches together.
    """

    def __init__(self, whole: Outputs, rows: slice, length: int, joined_length: int) -> None:
        self._whole, self._rows, self._length, self._joined_length = whole, rows, length, joined_length

    def _levels(self, levels: list[Tensor]) -> list[Tensor]:
        return [x[self._rows, : x.shape[1] * self._length // self._joined_length] for x in levels]

    @property
    def inputs(self) -> Tensor:
        """Inputs [B, C, T]."""
        return self._whole.inputs[self._rows, :, : self._length]

    @property
    def stem(self) -> Tensor:
        """Features [B, D, T] before the first stride."""
        return self._whole.stem[self._rows, :, : self._length]

    @property
    def logits(self) -> list[Tensor]:
        """Logits [B, T_l, K] per level."""
        return self._levels(self._whole.logits)

    @property
    def offsets(self) -> list[Tensor]:
        """Offsets [B, T_l, 2], or [B, T_l, K, 2], per level."""
        return self._levels(self._whole.offsets)

    @property
    def mask(self) -> list[Tensor]:
        """Masks [B, T_l] bool per level."""
        return self._levels(self._whole.mask)
