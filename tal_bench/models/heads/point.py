"""Classification and regression heads, shared by the levels and run once over the whole pyramid."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from itertools import accumulate, pairwise
from typing import NamedTuple

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


Watch = Callable[[int, Tensor], None]


class HeadOutputs(NamedTuple):
    """Outputs of the heads, and what distillation reads of them.

    Attributes:
        logits: Class logits [B, T_l, K] per level.
        offsets: Offsets [B, T_l, 2] per level, or [B, T_l, K, 2].
        features: Further tensors per level by their name in `models.heads.features`, channels last.
    """

    logits: list[Tensor]
    offsets: list[Tensor]
    features: dict[str, list[Tensor]]


class LevelGaps:
    """Positions of the empty steps between the levels of a `PackedPyramid`, made once per length and device.

    Args:
        empty_steps: Number of empty steps after each level; half of the widest kernel.
    """

    def __init__(self, empty_steps: int) -> None:
        self.empty_steps = empty_steps
        self._known: dict[tuple[object, ...], Tensor] = {}

    def sizes(self, features: list[Tensor]) -> list[int]:
        """Features [B, T_l, D] per level -> lengths of the levels, each followed by that of its gap."""
        return [size for x in features for size in (x.shape[1], self.empty_steps)]

    def positions(self, features: list[Tensor]) -> Tensor:
        """Features [B, T_l, D] per level -> indices of the empty steps in the packed sequence."""
        sizes, device = self.sizes(features), features[0].device
        if torch.compiler.is_compiling():  # an exported graph has no memory
            return _odd_parts(sizes).to(device)
        key = (*sizes, device)
        if key not in self._known:
            with torch.inference_mode(False):  # later calls may save it for gradients
                self._known[key] = _odd_parts(sizes).to(device)
        return self._known[key]


def _odd_parts(sizes: list[int]) -> Tensor:
    """Return the indices of every second part of a sequence that consists of parts of the given sizes."""
    ends = list(accumulate(sizes))
    parts = zip(sizes[1::2], ends[1::2], strict=True)
    return torch.cat([torch.arange(end - size, end) for size, end in parts])


class PackedPyramid:
    """All levels concatenated in one sequence, separated by empty steps, so that a layer runs once for all.

    The empty steps serve as the zero padding of the convolutions at the ends of each level. They must be
    cleared with `clear` after every layer that may have made them non-zero.

    Args:
        features: Features [B, T_l, D] per level.
        masks: Masks [B, T_l, 1] per level.
        gaps: Positions of the empty steps.
    """

    def __init__(self, features: list[Tensor], masks: list[Tensor], gaps: LevelGaps) -> None:
        self.sizes, empty_steps = gaps.sizes(features), gaps.empty_steps
        empty = features[0].new_zeros(features[0].shape[0], empty_steps, features[0].shape[2])
        self.features = torch.cat([part for x in features for part in (x, empty)], dim=1)
        gap = masks[0].new_zeros(masks[0].shape[0], empty_steps, 1)
        self.mask = torch.cat([part for m in masks for part in (m, gap)], dim=1)
        self.gaps = gaps.positions(features)

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
        widths = [spec.head_channels] + [spec.head_width] * spec.head_layers
        self.convs = nn.ModuleList(
            Conv(c_in, c_out, kernel, bias=not spec.head_norm) for c_in, c_out in pairwise(widths)
        )
        self.norms = nn.ModuleList(layer_norm(spec.head_width, spec.head_norm) for _ in self.convs)
        self.out = Conv(widths[-1], outputs, kernel)

    @property
    def full_precision_modules(self) -> tuple[nn.Module, ...]:
        """Modules that compute in full precision."""
        return (self.out,)

    def forward(self, packed: PackedPyramid, first: int = 0, watch: Watch | None = None) -> Tensor:
        """Packed pyramid -> [B, sum(T_l + gap), outputs], zero where padded.

        Args:
            packed: Input of the layer ``first``, before the activation if it is not layer 0.
            first: Layer to begin with; the last one is the output layer.
            watch: Function that is called with each layer's number and its input before the activation.
        """
        activate = relu if watch is None else F.relu  # what is watched must not be overwritten
        x = packed.features
        for layer in range(first, len(self.convs)):
            if watch is not None:
                watch(layer, x)
            x = self.convs[layer](activate(x) if layer else x)
            x = packed.clear(self.norms[layer](masked(x, packed.mask)))
        if watch is not None:
            watch(len(self.convs), x)
        x = activate(x)
        with torch.autocast(x.device.type, enabled=False):
            full = x if x.dtype == torch.float64 else x.float()
            return masked(self.out(full), packed.mask)


class LayerInputs(dict[str, list[Tensor]]):
    """Inputs of the layers of several heads per level, by names like `classifier/1`, before the activation.

    Args:
        packed: Pyramid that the heads read.
        names: Names of the inputs that are kept.
    """

    def __init__(self, packed: PackedPyramid, names: Collection[str]) -> None:
        super().__init__()
        self._packed, self._names = packed, names

    def of(self, head: str) -> Watch | None:
        """Return the function by which a head hands over the inputs of its layers, None if none is kept."""
        if not any(name.startswith(f"{head}/") for name in self._names):
            return None

        def watch(layer: int, x: Tensor) -> None:
            if (name := f"{head}/{layer}") in self._names:
                self[name] = self._packed.split(x)

        return watch


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
        self.gaps = LevelGaps(spec.head_kernel // 2)
        init_prior_bias(self.classifier, spec.empty_classes)
        if spec.offset_activation == "softplus":
            # ReLU units can die at small widths; this bias starts the offsets at 1.3 strides
            assert self.regressor.out.bias is not None
            nn.init.constant_(self.regressor.out.bias, 1.0)

    def forward(self, features: list[Tensor], masks: list[Tensor], keep: Collection[str] = ()) -> HeadOutputs:
        """Per level [B, T_l, D] and [B, T_l, 1] -> logits [B, T_l, K] and offsets [B, T_l, 2].

        The features of the outputs are the inputs of the layers that are named in ``keep``.
        """
        packed = PackedPyramid(features, masks, self.gaps)
        inputs = LayerInputs(packed, keep)
        logits = packed.split(self.classifier(packed, watch=inputs.of("classifier")))
        raw = packed.split(self.regressor(packed, watch=inputs.of("regressor")))
        return HeadOutputs(logits, self._offsets(raw, masks), inputs)

    def resume(self, head: str, layer: int, features: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Run a head from a layer on.

        Args:
            head: `classifier` or `regressor`.
            layer: First layer.
            features: Its input [B, T_l, D] per level, before the activation if it is not layer 0.
            masks: Masks [B, T_l, 1] per level.

        Returns:
            Logits [B, T_l, K] or offsets [B, T_l, 2] per level.
        """
        packed = PackedPyramid(features, masks, self.gaps)
        if head == "classifier":
            return packed.split(self.classifier(packed, layer))
        return self._offsets(packed.split(self.regressor(packed, layer)), masks)

    def _offsets(self, raw: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        scaled = zip(raw, self.scales, masks, strict=True)
        return [self.activate(x * scale) * mask for x, scale, mask in scaled]
