"""Frozen teachers, which compute only the outputs that the objective reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.models.detector import Detector
from tal_bench.training.device import Device
from tal_bench.training.teacher_cache import TeacherCache, digest
from tal_bench.types import Batch, Outputs

T = TypeVar("T")
SharedInputs = dict[tuple[str, ...], tuple[Tensor, Tensor]]
"""Inputs [B, T, C] and mask [B, T, 1] by the modalities they consist of."""


Keep = Callable[[str, Callable[[], list[Tensor]]], list[Tensor]]
"""Function (name, compute) -> kept tensors of that name, which are computed unless they are there."""
AHEAD = 8
"""Largest number of batches that teachers read in one forward pass."""
AHEAD_BYTES = 2**25
"""Largest size of the features of these batches; larger ones keep a device busy by themselves."""


class Teachers:
    """Frozen teachers of a run; roles with the same network share its outputs.

    Args:
        networks: Trained networks by role.
        device: Device and precision of the teachers.
        cache: Keeps outputs on the CPU for later trainings; None means that nothing is kept.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], device: Device, cache: TeacherCache | None = None
    ) -> None:
        self._device, self._cache = device, cache
        self._roles = {role: id(network) for role, network in networks.items()}
        distinct = {id(network): network for network in networks.values()}
        self._names: dict[int, str] = {}
        if cache is not None and device.torch.type == "cpu":
            for key, network in distinct.items():
                architecture = getattr(network, "spec", None)
                self._names[key] = digest(network.state_dict().values(), architecture, device.precision)
        self._networks = {
            key: device.prepare_for_inference(network).requires_grad_(False)
            for key, network in distinct.items()
        }

    def __call__(self, batch: Batch) -> dict[str, Outputs]:
        """Return the outputs of the teachers by role, without gradients; those of a `Detector` are lazy."""
        return self._answers(batch, {})

    def ahead(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, dict[str, Outputs]]]:
        """Yield every batch, on the device, with the outputs of teachers that read several batches at once.

        Outputs that the cache has kept are not computed again.
        """
        if not self._networks:
            yield from ((batch, {}) for batch in batches)
            return
        for on_host in _groups(batches):
            group = [self._device.move(batch) for batch in on_host]
            joined = _joined(group)
            answers = self._answers(joined, self._keepers(joined))
            first = 0
            for batch in group:
                rows = slice(first, first + len(batch.mask))
                first = rows.stop
                lengths = batch.mask.shape[1], joined.mask.shape[1]
                yield batch, {role: PartOfOutputs(x, rows, *lengths) for role, x in answers.items()}

    def _keepers(self, batch: Batch) -> dict[int, Keep]:
        """Return a function by network that keeps its outputs for a batch, on the CPU."""
        cache = self._cache
        if cache is None or not self._names:
            return {}
        run = " ".join(self._names.values())
        content = digest([*batch.features.values(), batch.mask], *batch.features)

        def keeper(network: str) -> Keep:
            return lambda name, compute: cache.get(run, (network, content, name), compute)

        return {key: keeper(name) for key, name in self._names.items()}

    def _answers(self, batch: Batch, keepers: Mapping[int, Keep]) -> dict[str, Outputs]:
        shared: SharedInputs = {}
        outputs = {
            key: self._outputs(network, batch, shared, keepers.get(key, _computed))
            for key, network in self._networks.items()
        }
        return {role: outputs[key] for role, key in self._roles.items()}

    def _outputs(self, network: nn.Module, batch: Batch, shared: SharedInputs, keep: Keep) -> Outputs:
        if isinstance(network, Detector):
            return LazyOutputs(network, batch, self._device, shared, keep)
        with torch.no_grad(), self._device.autocast():
            outputs: Outputs = network(batch)
        return outputs


def _computed(name: str, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
    return compute()


def _groups(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Divide batches into groups of `AHEAD`, or of fewer that have `AHEAD_BYTES` together."""
    iterator = iter(batches)
    for first in iterator:
        size = sum(x.nbytes for x in first.features.values())
        yield [first, *islice(iterator, max(1, min(AHEAD, AHEAD_BYTES // size)) - 1)]


def _joined(batches: Sequence[Batch]) -> Batch:
    """Return one batch of the features of all, without labels, padded to the longest."""
    if len(batches) == 1:
        return batches[0]
    length = max(batch.mask.shape[1] for batch in batches)
    features = {
        name: torch.cat(
            [F.pad(b.features[name].transpose(1, 2), (0, 0, 0, length - b.mask.shape[1])) for b in batches]
        ).transpose(1, 2)  # as in a batch, a view of contiguous [B, T, C]
        for name in batches[0].features
    }
    mask = torch.cat([F.pad(b.mask, (0, length - b.mask.shape[1])) for b in batches])
    return Batch(features, mask, [], [], [])


class PartOfOutputs:
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


class LazyOutputs:
    """Outputs of a detector for a batch, each computed at its first use: inputs, stem, or all others.

    Args:
        detector: Frozen detector.
        batch: Batch on the device.
        device: Device and precision of the detector.
        shared: Inputs of this batch that teachers of the same modalities share.
        keep: Keeps outputs that are read.
    """

    def __init__(
        self, detector: Detector, batch: Batch, device: Device, shared: SharedInputs, keep: Keep
    ) -> None:
        self._detector, self._batch, self._device, self._shared = detector, batch, device, shared
        self._keep = keep

    def _compute(self, step: Callable[..., T], *arguments: object) -> T:
        # not inference mode, because losses may save these tensors for their gradients
        with torch.no_grad(), self._device.autocast():
            return step(*arguments)

    @cached_property
    def _inputs_and_mask(self) -> tuple[Tensor, Tensor]:
        inputs = self._detector.inputs
        shared = self._shared if inputs.hallucination is None and inputs.standardisation is None else {}
        if inputs.reads not in shared:
            value = self._compute(self._detector.read_inputs, self._batch.features, self._batch.mask)
            shared[inputs.reads] = value
        return shared[inputs.reads]

    @cached_property
    def _stem_and_mask(self) -> tuple[Tensor, Tensor]:
        return self._compute(self._detector.compute_stem, *self._inputs_and_mask)

    @cached_property
    def _pyramid_outputs(self) -> list[list[Tensor]]:
        """Logits, offsets and masks."""

        def compute() -> list[Tensor]:
            parts = self._compute(self._detector.compute_outputs, *self._stem_and_mask)
            return [level for part in parts for level in part]

        levels = self._keep("pyramid", compute)
        count = len(levels) // 3
        return [levels[first : first + count] for first in (0, count, 2 * count)]

    @property
    def inputs(self) -> Tensor:
        """Inputs [B, C, T]."""
        return self._inputs_and_mask[0].transpose(1, 2)

    @cached_property
    def stem(self) -> Tensor:
        """Features [B, D, T] before the first stride."""
        return self._keep("stem", lambda: [self._stem_and_mask[0]])[0].transpose(1, 2)

    @property
    def logits(self) -> list[Tensor]:
        """Logits [B, T_l, K] per level."""
        return self._pyramid_outputs[0]

    @property
    def offsets(self) -> list[Tensor]:
        """Offsets [B, T_l, 2], or [B, T_l, K, 2], per level."""
        return self._pyramid_outputs[1]

    @property
    def mask(self) -> list[Tensor]:
        """Masks [B, T_l] bool per level."""
        return self._pyramid_outputs[2]
