"""Frozen teachers, which compute only the outputs that the objective reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor, nn

from tal_bench.models.detector import Detector
from tal_bench.models.heads.features import kept_features
from tal_bench.models.heads.point import HeadOutputs
from tal_bench.training.device import Device
from tal_bench.training.teacher_cache import digest
from tal_bench.types import Batch, Outputs

T = TypeVar("T")
InputKey = tuple[object, ...]
"""What the inputs of a detector depend on beside the batch: modalities, and how they are scaled."""
SharedInputs = dict[InputKey, tuple[Tensor, Tensor]]
"""Inputs [B, T, C] and mask [B, T, 1] of a batch."""


class Teachers:
    """Frozen teachers of a run; roles with the same network share its outputs.

    Args:
        networks: Trained networks by role.
        device: Device and precision of the teachers.
        keep: Features of `models.heads.features` that the objective reads; also an attribute.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: Device, keep: Collection[str] = ()) -> None:
        self._device, self.keep = device, tuple(keep)
        self._roles = {role: id(network) for role, network in networks.items()}
        self._networks = {
            id(network): device.prepare_for_inference(network).requires_grad_(False)
            for network in networks.values()
        }
        self._keys = {
            key: _input_key(network)
            for key, network in self._networks.items()
            if isinstance(network, Detector)
        }

    @property
    def networks(self) -> list[nn.Module]:
        """Frozen networks, each once."""
        return list(self._networks.values())

    @property
    def precision(self) -> str:
        """Precision of the teachers."""
        return self._device.precision

    @cached_property
    def identity(self) -> str:
        """Hash of weights, architectures and precision, by which outputs for equal batches are equal."""
        return " ".join(
            digest(network.state_dict(), getattr(network, "spec", None), self.precision)
            for network in self.networks
        )

    def __call__(self, batch: Batch) -> dict[str, Outputs]:
        """Return the outputs of the teachers by role, without gradients; those of a `Detector` are lazy."""
        shared: SharedInputs = {}
        outputs = {key: self._outputs(key, batch, shared) for key in self._networks}
        return {role: outputs[key] for role, key in self._roles.items()}

    def _outputs(self, key: int, batch: Batch, shared: SharedInputs) -> Outputs:
        network = self._networks[key]
        if isinstance(network, Detector):
            return LazyOutputs(network, batch, self._device, shared, self._keys[key], self.keep)
        with torch.no_grad(), self._device.autocast():
            outputs: Outputs = network(batch)
        return outputs


def _input_key(detector: Detector) -> InputKey:
    """Return a key that detectors share if they have equal inputs; one of its own for hallucinated inputs."""
    inputs = detector.inputs
    if inputs.hallucination is not None:
        return (id(detector),)
    scaling = nn.ModuleList(part for part in (inputs.standardisation, inputs.whitening) if part is not None)
    return (*inputs.reads, digest(scaling.state_dict()))


class LazyOutputs:
    """Outputs of a detector for a batch, each computed at its first use: inputs, stem, neck, or all others.

    Args:
        detector: Frozen detector.
        batch: Batch on the device.
        device: Device and precision of the detector.
        shared: Inputs of this batch that teachers share.
        key: Key of the detector's inputs among them.
        keep: Features of `models.heads.features` that are read.
    """

    def __init__(
        self,
        detector: Detector,
        batch: Batch,
        device: Device,
        shared: SharedInputs,
        key: InputKey,
        keep: Collection[str] = (),
    ) -> None:
        self._detector, self._batch, self._device, self._shared = detector, batch, device, shared
        self._key, self._keep = key, keep

    def _compute(self, step: Callable[..., T], *arguments: object) -> T:
        # not inference mode, because losses may save these tensors for their gradients
        with torch.no_grad(), self._device.autocast():
            return step(*arguments)

    @cached_property
    def _inputs_and_mask(self) -> tuple[Tensor, Tensor]:
        if self._key not in self._shared:
            value = self._compute(self._detector.read_inputs, self._batch.features, self._batch.mask)
            self._shared[self._key] = value
        return self._shared[self._key]

    @cached_property
    def _stem_and_mask(self) -> tuple[Tensor, Tensor]:
        return self._compute(self._detector.compute_stem, *self._inputs_and_mask)

    @cached_property
    def _levels_and_masks(self) -> tuple[list[Tensor], list[Tensor]]:
        return self._compute(self._detector.compute_neck, *self._stem_and_mask)

    @cached_property
    def _heads(self) -> HeadOutputs:
        outputs: HeadOutputs = self._compute(
            self._detector.compute_heads, *self._levels_and_masks, self._keep
        )
        return outputs

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
        return self._heads.logits

    @property
    def offsets(self) -> list[Tensor]:
        """Offsets [B, T_l, 2], or [B, T_l, K, 2], per level."""
        return self._heads.offsets

    @property
    def mask(self) -> list[Tensor]:
        """Masks [B, T_l] bool per level."""
        return [mask[:, :, 0] > 0 for mask in self._levels_and_masks[1]]

    @cached_property
    def features(self) -> Mapping[str, list[Tensor]]:
        """Features that are read, per level; the heads run only if one of them is theirs."""
        levels = self._levels_and_masks[0]
        heads = HeadOutputs([], [], {}) if set(self._keep) <= {"neck"} else self._heads
        return kept_features(self._keep, levels, heads)

    def continue_head(self, name: str, features: list[Tensor]) -> list[Tensor]:
        """Run the remaining layers of a head on other features; see `types.Outputs`."""
        head, _, layer = name.partition("/")
        masks = self._levels_and_masks[1]
        own = self.features[name]
        given = [
            torch.where(mask > 0, x.transpose(1, 2), y.transpose(1, 2))
            for x, y, mask in zip(features, own, masks, strict=True)
        ]
        with self._device.autocast():
            return self._detector.heads.resume(head, int(layer), given, masks)
