"""Classification and regression heads, shared by the levels and run once over the whole pyramid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.models.layers import Conv, layer_norm, masked, relu

PRIOR = 0.01
"""Initial probability of the classifier (focal loss, arXiv 1708.02002)."""
EMPTY_PRIOR = 1e-6
"""Initial probability of classes without training data."""
OFFSET_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "softplus": F.softplus}


class PackedPyramid:
    """All levels concatenated in one sequence, separated by empty steps, so that a layer runs once for all.

    The empty steps serve as the zero padding of the convolutions at the ends of each level. They must be
    cleared with `clear` after every layer that may have made them non-zero.

    Args:
        features: Features [B, T_l, D] per level.
        masks: Masks [B, T_l, 1] per level.
        empty_steps: Number of empty steps after each level; half of the widest kernel.
    """

    def __init__(self, features: list[Tensor], masks: list[Tensor], empty_steps: int = 1) -> None:
        self.sizes = [size for x in features for size in (x.shape[1], empty_steps)]
        empty = features[0].new_zeros(features[0].shape[0], empty_steps, features[0].shape[2])
        self.features = torch.cat([part for x in features for part in (x, empty)], dim=1)
        gap = masks[0].new_zeros(masks[0].shape[0], empty_steps, 1)
        self.mask = torch.cat([part for m in masks for part in (m, gap)], dim=1)
        between = torch.cat(
            [torch.full((size,), i % 2, dtype=torch.bool) for i, size in enumerate(self.sizes)]
        )
        self.gaps = between.nonzero()[:, 0].to(self.mask.device, non_blocking=True)

    def clear(self, x: Tensor) -> Tensor:
        """Set the empty steps of x [B, sum(T_l + gap), C] to zero, in place."""
        return x.index_fill_(1, self.gaps, 0.0)

    def split(self, x: Tensor) -> list[Tensor]:
        """[B, sum(T_l + gap), C] -> per level [B, T_l, C]."""
        return list(x.split_with_sizes(self.sizes, dim=1)[::2])


class Tower(nn.Module):
    """One head: hidden layers of masked convolution, LayerNorm and ReLU, and an output convolution.

    The output layer computes in full precision, whatever the precision of the hidden layers.
    """

    def __init__(self, spec: DetectorSpec, outputs: int, kernel: int | None = None) -> None:
        super().__init__()
        kernel = spec.head_kernel if kernel is None else kernel
        widths = [spec.neck_width or spec.width] + [spec.head_width] * spec.head_layers
        self.convs = nn.ModuleList(
            Conv(c_in, c_out, kernel, bias=not spec.head_norm) for c_in, c_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(layer_norm(spec.head_width, spec.head_norm) for _ in self.convs)
        self.out = Conv(widths[-1], outputs, kernel)

    @property
    def full_precision_modules(self) -> tuple[nn.Module, ...]:
        """Modules that compute in full precision."""
        return (self.out,)

    def forward(self, packed: PackedPyramid) -> Tensor:
        """Packed pyramid -> [B, sum(T_l + gap), outputs], zero where padded."""
        x = packed.features
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = relu(packed.clear(norm(masked(conv(x), packed.mask))))
        with torch.autocast(x.device.type, enabled=False):
            full = x if x.dtype == torch.float64 else x.float()
            return masked(self.out(full), packed.mask)


def init_prior_bias(classifier: Tower, empty_classes: Iterable[int] = ()) -> None:
    """Initialise the output biases so that classes start at `PRIOR`, and empty classes at `EMPTY_PRIOR`."""
    bias = classifier.out.bias
    assert bias is not None
    nn.init.constant_(bias, math.log(PRIOR / (1 - PRIOR)))
    with torch.no_grad():
        for label in empty_classes:
            bias[label] = math.log(EMPTY_PRIOR / (1 - EMPTY_PRIOR))


class Heads(nn.Module):
    """Per-class logits and distances to start and end.

    Args:
        spec: Architecture: widths, classes, and the activation that keeps distances non-negative.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.classifier = Tower(spec, spec.classes)
        self.regressor = Tower(spec, 2)
        self.scales = nn.Parameter(torch.ones(spec.levels))
        self.activate = OFFSET_ACTIVATIONS[spec.offset_activation]
        self.gap = spec.head_kernel // 2
        init_prior_bias(self.classifier, spec.empty_classes)
        if spec.offset_activation == "softplus":
            # ReLU units can die at small widths; this bias starts the offsets at 1.3 strides
            assert self.regressor.out.bias is not None
            nn.init.constant_(self.regressor.out.bias, 1.0)

    def forward(self, features: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level [B, T_l, D] and [B, T_l, 1] -> logits [B, T_l, K] and offsets [B, T_l, 2]."""
        packed = PackedPyramid(features, masks, self.gap)
        logits = packed.split(self.classifier(packed))
        raw = packed.split(self.regressor(packed))
        scaled = zip(raw, self.scales, masks, strict=True)
        return logits, [self.activate(x * scale) * mask for x, scale, mask in scaled]
