"""Frozen teachers: asked once per batch, and only as far as the objective reads their answers."""

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
Read = dict[tuple[str, ...], tuple[Tensor, Tensor]]
"""Modalities, in order, to inputs [B, T, C] and mask [B, T, 1]."""


class Teachers:
    """The teachers of a run; roles that are played by the same network share its answer.

    Args:
        networks: role to trained network; they are frozen.
        device: where they compute, and in which precision.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: Device) -> None:
        self._device = device
        self._roles = {role: id(network) for role, network in networks.items()}
        self._networks = {
            id(network): device.prepare_for_inference(network).requires_grad_(False)
            for network in networks.values()
        }

    def __call__(self, batch: Batch) -> dict[str, Outputs]:
        """Role to what its teacher says, without gradients; a `Detector` says it when it is read."""
        read: Read = {}
        answers = {key: self._ask(network, batch, read) for key, network in self._networks.items()}
        return {role: answers[key] for role, key in self._roles.items()}

    def _ask(self, network: nn.Module, batch: Batch, read: Read) -> Outputs:
        if isinstance(network, Detector):
            return Answer(network, batch, self._device, read)
        with torch.no_grad(), self._device.autocast():
            answer: Outputs = network(batch)
        return answer


class Answer:
    """A detector's output of a batch, computed as far as it is read: inputs, stem, or everything.

    Args:
        detector: frozen.
        batch: on the device.
        device: where it computes, and in which precision.
        read: what teachers have read of this batch so far; those of the same modalities share it.
    """

    def __init__(self, detector: Detector, batch: Batch, device: Device, read: Read) -> None:
        self._detector, self._batch, self._device, self._shared = detector, batch, device, read

    def _compute(self, step: Callable[..., T], *arguments: object) -> T:
        # not inference mode: a loss may keep what is said here for its gradients
        with torch.no_grad(), self._device.autocast():
            return step(*arguments)

    @cached_property
    def _read(self) -> tuple[Tensor, Tensor]:
        inputs = self._detector.inputs
        shared = self._shared if inputs.hallucination is None else {}  # what it hallucinates is its own
        if inputs.reads not in shared:
            read = self._compute(self._detector.read, self._batch.features, self._batch.mask)
            shared[inputs.reads] = read
        return shared[inputs.reads]

    @cached_property
    def _started(self) -> tuple[Tensor, Tensor]:
        return self._compute(self._detector.start, *self._read)

    @cached_property
    def _said(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self._compute(self._detector.finish, *self._started)

    @property
    def inputs(self) -> Tensor:
        """[B, C, T]."""
        return self._read[0].transpose(1, 2)

    @property
    def stem(self) -> Tensor:
        """[B, D, T]."""
        return self._started[0].transpose(1, 2)

    @property
    def logits(self) -> list[Tensor]:
        """Per level [B, T_l, K]."""
        return self._said[0]

    @property
    def offsets(self) -> list[Tensor]:
        """Per level [B, T_l, 2], or [B, T_l, K, 2]."""
        return self._said[1]

    @property
    def mask(self) -> list[Tensor]:
        """Per level [B, T_l] bool."""
        return self._said[2]
