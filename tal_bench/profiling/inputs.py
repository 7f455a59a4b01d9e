"""Inputs and settings of measurements."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from tal_bench.config import DetectorSpec
from tal_bench.types import Batch, VideoMeta

TorchDevice = torch.device


class DeviceLike(Protocol):
    """Device and precision of a measurement, implemented by `tal_bench.training.device.Device`."""

    @property
    def torch(self) -> TorchDevice:
        """PyTorch device."""

    @property
    def precision(self) -> Any:
        """Precision, `fp32` or `bf16`."""

    def move(self, batch: Batch) -> Batch:
        """Move a batch to this device."""

    def prepare_for_inference(self, model: nn.Module) -> nn.Module:
        """Move a model to this device and set it to evaluation mode."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context in which matrix products use the precision."""


def random_batch(architecture: DetectorSpec, frames: int, *, valid: int | None = None) -> Batch:
    """Return a batch of one video of noise.

    Args:
        architecture: Architecture, which defines the modalities and their numbers of channels.
        frames: Number of steps T of the batch.
        valid: Number of valid steps, the rest is padding; all by default.
    """
    valid = frames if valid is None else valid
    widths = {**architecture.primary, **architecture.privileged}
    generator = torch.Generator().manual_seed(0)
    features = {}
    for name in architecture.reads:
        x = torch.randn(1, frames, widths[name], generator=generator)
        x[:, valid:] = 0.0
        features[name] = x.transpose(1, 2)  # the memory layout of real batches
    return Batch(
        features=features,
        mask=(torch.arange(frames) < valid)[None],
        segments=torch.zeros(1, 1, 2),
        labels=torch.full((1, 1), -1),
        videos=[VideoMeta(id="noise", duration=float(valid), fps=1.0, stride=1.0, window=1.0)],
    )


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of CPU threads of torch within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hardware_name(device: TorchDevice) -> str:
    """Return the name of the GPU or of the processor for results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "cpu"
