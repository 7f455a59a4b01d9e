"""Frozen teachers, which compute only the outputs that the objective reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from tal_bench.models.detector import Detector
from tal_bench.training.device import Device
from tal_bench.types import Batch, Outputs

T = TypeVar("T")
SharedInputs = dict[tuple[str, ...], tuple[Tensor, Tensor]]
"""Inputs [B, T, C] and mask [B, T, 1] by the modalities they consist of."""


AHEAD = 8
"""Largest number of batches that teachers read in one forward pass."""
AHEAD_BYTES = 2**25
"""Largest size of their features; beyond it, one forward pass of a single batch keeps the device busy."""


class Teachers:
    """Frozen teachers of a run; roles with the same network share its outputs.

    Args:
        networks: Trained networks by role.
        device: Device and precision of the teachers.
        cache: Outputs that are kept for later trainings.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], device: Device, cache: TeacherCache = OF_THIS_PROCESS
    ) -> None:
        self._device, self._cache = device, cache
        self._roles = {role: id(network) for role, network in networks.items()}
        distinct = {id(network): network for network in networks.values()}
        self._names = [
            digest(network.state_dict().values(), getattr(network, "spec", None), device.precision)
            for network in distinct.values()
            if device.torch.type == "cpu"
        ]
        self._networks = {
            key: device.prepare_for_inference(network).requires_grad_(False)
            for key, network in distinct.items()
        }

    def __call__(self, batch: Batch) -> dict[str, Outputs]:
        """Return the outputs of the teachers by role, without gradients; those of a `Detector` are lazy."""
        shared: SharedInputs = {}
        outputs = {key: self._outputs(network, batch, shared) for key, network in self._networks.items()}
        return {role: outputs[key] for role, key in self._roles.items()}

    def ahead(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, dict[str, Outputs]]]:
        """Yield every batch with the outputs of the teachers, which read several batches at once.

        Outputs are also taken from the cache, and added to it.
        """
        for group in _groups(batches) if self._networks else ([batch] for batch in batches):
            joined = self._device.move(_joined(group))
            outputs = self(joined)
            if self._names and 
            row = 0
            for batch in group:
                rows = slice(row, row := row + len(batch.mask))
                yield batch, {role: PartOfOutputs(x, rows, batch.mask.shape[1]) for role, x in outputs.items()}

    def _outputs(self, network: nn.Module, batch: Batch, shared: SharedInputs) -> Outputs:
        if isinstance(network, Detector):
            return LazyOutputs(network, batch, self._device, shared)
        with torch.no_grad(), self._device.autocast():
            outputs: Outputs = network(batch)
        return outputs


class LazyOutputs:
    """Outputs of a detector for a batch, each computed at its first use: inputs, stem, or all others.

    Args:
        detector: Frozen detector.
        batch: Batch on the device.
        device: Device and precision of the detector.
        shared: Inputs of this batch that teachers of the same modalities share.
    """

    def __init__(self, detector: Detector, batch: Batch, device: Device, shared: SharedInputs) -> None:
        self._detector, self._batch, self._device, self._shared = detector, batch, device, shared

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
    def _pyramid_outputs(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self._compute(self._detector.compute_outputs, *self._stem_and_mask)

    @property
    def inputs(self) -> Tensor:
        """Inputs [B, C, T]."""
        return self._inputs_and_mask[0].transpose(1, 2)

    @property
    def stem(self) -> Tensor:
        """Features [B, D, T] before the first stride."""
        return self._stem_and_mask[0].transpose(1, 2)

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
