"""Made-up inputs and borrowed settings for a measurement."""

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


class Place(Protocol):
    """Where and in which precision to measure; `tal_bench.training.device.Device` is one."""

    @property
    def torch(self) -> TorchDevice:
        """The device."""

    @property
    def precision(self) -> Any:
        """`fp32` or `bf16`."""

    def move(self, batch: Batch) -> Batch:
        """The batch on this device."""

    def prepare_for_inference(self, model: nn.Module) -> nn.Module:
        """Return the model on the device, in eval mode."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Context in which matrix products take the precision."""


def random_batch(
    architecture: DetectorSpec, frames: int, *, valid: int | None = None, device: str = "cpu"
) -> Batch:
    """One video of noise.

    Args:
        architecture: which modalities, and how wide.
        frames: T of the batch.
        valid: steps that are real, the rest is padding; by default all.
        device: where to make it.
    """
    valid = frames if valid is None else valid
    widths = {**architecture.primary, **architecture.privileged}
    generator = None if device == "meta" else torch.Generator(device).manual_seed(0)
    features = {}
    for name in architecture.reads:
        x = torch.randn(1, frames, widths[name], generator=generator, device=device)
        x[:, valid:] = 0.0
        features[name] = x.transpose(1, 2)  # as the data room lays it out
    return Batch(
        features=features,
        mask=(torch.arange(frames, device=device) < valid)[None],
        segments=[torch.empty(0, 2)],
        labels=[torch.empty(0, dtype=torch.long)],
        videos=[VideoMeta(id="noise", duration=float(valid), fps=1.0, stride=1.0, window=1.0)],
    )


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute on so many CPU threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hardware_name(device: TorchDevice) -> str:
    """Name of the GPU or of the processor, as results show it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "cpu"
