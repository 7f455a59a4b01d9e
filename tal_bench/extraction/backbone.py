"""The small snippet network that ships with the package, and inference of any snippet network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tal_bench.errors import DataError
from tal_bench.system.arithmetic.precision import autocast

GRID = 3
GRID_CHANNELS = 16


class SnippetNet(nn.Module):
    """A small convolutional network for small snippets.

    The output concatenates the spatial mean of the last feature map with a 3 × 3 average-pooled grid of its
    16-channel projection: 128 + 144 = 272 numbers.

    Args:
        in_chans: Number of channels of a snippet.
        widths: Number of channels of each convolution.
        strides: Stride of each convolution; the kernel sizes are 5, 3, 3, 3, 3.
    """

    def __init__(
        self,
        in_chans: int,
        widths: tuple[int, ...] = (32, 48, 64, 128, 128),
        strides: tuple[int, ...] = (2, 2, 1, 2, 1),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            kernel = 5 if k == 0 else 3
            layers += [
                nn.Conv2d(in_chans, width, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            in_chans = width
        self.layers = nn.Sequential(*layers)
        self.where = nn.Conv2d(in_chans, GRID_CHANNELS, 1)
        self.blocks = (in_chans, GRID_CHANNELS * GRID * GRID)
        self.num_features = sum(self.blocks)

    def forward(self, snippets: Tensor) -> Tensor:
        """Map snippets [M, C, H, W] to vectors [M, num_features]."""
        maps = self.layers(snippets)
        grid = nn.functional.adaptive_avg_pool2d(self.where(maps), GRID)
        return torch.cat([maps.mean((2, 3)), grid.flatten(1)], 1)

    def fused(self) -> SnippetNet:
        """Fold the batch norms into the convolutions, in place, and return the network in evaluation mode."""
        self.eval()
        folded: list[nn.Module] = []
        for layer in self.layers:
            if isinstance(layer, nn.BatchNorm2d) and isinstance(folded[-1], nn.Conv2d):
                folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
            else:
                folded.append(layer)
        self.layers = nn.Sequential(*folded)
        return self


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a safetensors file into a network.

    Raises:
        DataError: The file is missing, unreadable, or holds weights of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        net.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(
            f"not the weights of {type(net).__name__}: {error}",
            where=path,
            hint="reinstall tal-bench or give another weights file",
        ) from error


@torch.inference_mode()
def embed(
    net: nn.Module,
    snippets: Callable[[NDArray[np.intp]], NDArray[np.float32]],
    steps: int,
    batch: int = 48,
    precision: str = "fp32",
) -> Tensor:
    """Run a network over snippets of a video.

    A GPU gets them from pinned memory, and the host does not wait for it, so that it makes the next snippets,
    also those of the next excerpt of the video, while the GPU computes.

    Args:
        net: Network in evaluation mode, on any device; maps [M, C, H, W] to [M, D].
        snippets: Function that maps step numbers [M] to snippets [M, C, H, W]; called once per batch.
        steps: Number of steps T.
        batch: Number of steps per forward pass; small batches stay in the processor's cache.
        precision: Precision of the network's products.

    Returns:
        Vectors [T, D] in fp32, on the device of the network.
    """
    device = next(net.parameters()).device
    parts: list[Tensor] = []
    with autocast(device, precision):
        for first in range(0, steps, batch):
            inputs = torch.from_numpy(snippets(np.arange(first, min(first + batch, steps))))
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            if device.type == "cuda":
                inputs = inputs.pin_memory()
            parts.append(net(inputs.to(device, non_blocking=True)).float())
    return torch.cat(parts)
