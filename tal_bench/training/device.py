"""Device and precision of a run, on top of lightning-fabric."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tal_bench.errors import InputError
from tal_bench.models.layers import prepare_for_inference
from tal_bench.system.allocator import keep_freed_memory
from tal_bench.types import Batch


class Device:
    """Device with a precision.

    Args:
        name: `cpu` or `cuda`.
        precision: `fp32`, or `bf16` for autocast of matrix products.
    """

    def __init__(self, name: str = "cpu", precision: Literal["fp32", "bf16"] = "fp32") -> None:
        from lightning_fabric import Fabric

        if name == "cpu":
            keep_freed_memory()
        mode = "bf16-mixed" if precision == "bf16" else "32-true"
        self._fabric = Fabric(accelerator=name, devices=1, precision=mode)
        self.torch: torch.device = self._fabric.device
        self.precision = precision

    def with_precision(self, precision: Literal["fp32", "bf16"]) -> Device:
        """Return the same device with another precision."""
        return Device(self.torch.type, precision)

    def pin(self, batch: Batch) -> Batch:
        """Return the batch in pinned memory, or the batch itself on the CPU."""
        if self.torch.type == "cpu":
            return batch
        features = {name: x.pin_memory() for name, x in batch.features.items()}
        return dataclasses.replace(
            batch,
            features=features,
            mask=batch.mask.pin_memory(),
            segments=batch.segments.pin_memory(),
            labels=batch.labels.pin_memory(),
        )

    def move(self, batch: Batch) -> Batch:
        """Return the batch on this device."""
        if self.torch.type == "cpu":
            return batch
        return dataclasses.replace(
            batch,
            features={name: self._to_device(x) for name, x in batch.features.items()},
            mask=self._to_device(batch.mask),
            segments=self._to_device(batch.segments),
            labels=self._to_device(batch.labels),
        )

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.torch, non_blocking=True)

    def prepare_for_inference(self, model: nn.Module) -> nn.Module:
        """Return the model on this device in eval mode, as a copy with prepared weights where that is faster.

        Prepared weights need not be converted or rearranged in every forward pass.
        """
        model = model.to(self.torch).eval()
        if self.precision == "bf16":
            return prepare_for_inference(model, torch.bfloat16)
        return prepare_for_inference(model) if self.torch.type == "cpu" else model

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which matrix products use the precision."""
        context: AbstractContextManager[Any] = self._fabric.autocast()
        return context

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        self._fabric.backward(loss)


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> str:
    """Resolve the name of a device; `auto` is CUDA if available.

    Raises:
        InputError: If CUDA is requested and not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", where="--device cuda", hint="use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def choose_precision(name: Literal["auto", "fp32", "bf16"], device: str) -> Literal["fp32", "bf16"]:
    """Resolve a precision; `auto` is bf16 on CUDA devices that support it, fp32 elsewhere."""
    if name == "auto":
        return "bf16" if device == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return name
