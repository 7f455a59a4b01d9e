"""The precision of products: fp32, TF32 or bf16, the same for matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def products(device: torch.device, precision: str) -> Iterator[None]:
    """Context in which products of fp32 tensors on a GPU are exact, or all of them use TF32.

    By default PyTorch rounds the inputs of convolutions to TF32, and those of matrix products not.

    Args:
        device: Device; the CPU has no TF32.
        precision: `tf32`, or another one, in which products of fp32 tensors are exact.
    """
    if device.type == "cpu":
        yield
        return
    multiplied, convolved = torch.backends.cuda.matmul, torch.backends.cudnn
    before = multiplied.allow_tf32, convolved.allow_tf32
    multiplied.allow_tf32 = convolved.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        multiplied.allow_tf32, convolved.allow_tf32 = before


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Context in which products of a network use a precision; `bf16` is autocast.

    Args:
        device: Device of the network.
        precision: `fp32`, `tf32` or `bf16`.
    """
    half = torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    with products(device, precision), half:
        yield
