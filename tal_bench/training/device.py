"""Device and precision of a run."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from tal_bench.config import Precision
from tal_bench.errors import InputError
from tal_bench.models.layers import prepare_for_inference
from tal_bench.system.allocator import keep_freed_memory
from tal_bench.system.arithmetic.determinism import repeatable, require_repeatable_products
from tal_bench.system.arithmetic.precision import autocast, products
from tal_bench.types import Batch


class Device:
    """Device with a precision. It is not touched before the first tensor is moved there.

    Args:
        name: `cpu`, or `cuda` for the first visible GPU.
        precision: `fp32`; `tf32` for matrix products and convolutions with inputs rounded to TF32, on GPUs
            only; or `bf16` for autocast of matrix products. What stays in full precision under `bf16`, such
            as the last layers of the heads, is computed as in `fp32`.
        deterministic: Whether operations of a GPU have to repeat their results; those of the CPU always do.

    Raises:
        InputError: `deterministic` is too late for this process, see `require_repeatable_products`.
    """

    def __init__(
        self, name: str = "cpu", precision: Precision = "fp32", *, deterministic: bool = False
    ) -> None:
        if name == "cpu":
            keep_freed_memory()
        self.torch = torch.device(name, 0) if name == "cuda" else torch.device(name)
        self.precision = precision
        self.deterministic = choose_deterministic(deterministic, name)

    def with_precision(self, precision: Precision) -> Device:
        """Return the same device with another precision."""
        return Device(self.torch.type, precision, deterministic=self.deterministic)

    def pin(self, batch: Batch) -> Batch:
        """Return the batch in pinned memory, or the batch itself on the CPU."""
        if self.torch.type == "cpu":
            return batch
        return _with_tensors(batch, _pinned)

    def move(self, batch: Batch) -> Batch:
        """Return the batch on this device."""
        if self.torch.type == "cpu":
            return batch
        return _with_tensors(batch, lambda x: x.to(self.torch, non_blocking=True))

    def send(self, x: Tensor) -> Tensor:
        """Return a small tensor of the host on this device, without waiting for what was launched there."""
        return x if self.torch.type == "cpu" else _pinned(x).to(self.torch, non_blocking=True)

    def prepare_for_inference(self, model: nn.Module) -> nn.Module:
        """Return the model on this device in eval mode, as a copy with prepared weights where that is faster.

        Prepared weights need not be converted or rearranged in every forward pass.
        """
        model = model.to(self.torch).eval()
        if self.precision == "bf16":
            return prepare_for_inference(model, torch.bfloat16)
        return prepare_for_inference(model) if self.torch.type == "cpu" else model

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Context in which matrix products use the precision."""
        with self._repeatable(), autocast(self.torch, self.precision):
            yield

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Context in which products of fp32 tensors on a GPU are exact, or all of them use TF32."""
        with self._repeatable(), products(self.torch, self.precision):
            yield

    def _repeatable(self) -> AbstractContextManager[None]:
        return repeatable() if self.deterministic else contextlib.nullcontext()


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Resolve the name of a device; `auto` is CUDA if available.

    Raises:
        InputError: If CUDA is requested and not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", where="--device cuda", hint="use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def choose_precision(name: Literal["auto"] | Precision, device: str, flag: str = "--precision") -> Precision:
    """Resolve a precision; `auto` is bf16 on GPUs with hardware for it (Ampere and later), fp32 elsewhere.

    Raises:
        InputError: TF32 is requested on the CPU.
    """
    if name == "auto":
        fast = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if fast else "fp32"
    if name == "tf32" and device == "cpu":
        raise InputError("the CPU has no TF32", where=f"{flag} tf32", hint="use fp32 or bf16")
    return name


def choose_deterministic(wanted: bool, device: str) -> bool:
    """Return whether a device needs deterministic algorithms to repeat its results; the CPU always does.

    If so, matrix products of this process, and of those that it starts, are deterministic from now on.

    Raises:
        InputError: It is too late for that, see `require_repeatable_products`.
    """
    if not wanted or device == "cpu":
        return False
    require_repeatable_products()
    return True


def batch_tensors(batch: Batch) -> dict[str, Tensor]:
    """Return the tensors of a batch by name."""
    features = {f"features/{name}": x for name, x in batch.features.items()}
    return {**features, "mask": batch.mask, "segments": batch.segments, "labels": batch.labels}


def _pinned(x: Tensor) -> Tensor:
    """Return a tensor in pinned memory; its elements must not share memory there, as those of `expand` do."""
    shared = any(stride == 0 and size > 1 for stride, size in zip(x.stride(), x.shape, strict=True))
    return (x.contiguous() if shared else x).pin_memory()


def _with_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """Return a batch with a function applied to each of its tensors."""
    return dataclasses.replace(
        batch,
        features={name: change(x) for name, x in batch.features.items()},
        mask=change(batch.mask),
        segments=change(batch.segments),
        labels=change(batch.labels),
    )
