"""Trident head: offsets as expected distances under distributions over bins (TriDet, arXiv 2303.07347)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.models.heads.point import (
    OFFSET_ACTIVATIONS,
    HeadOutputs,
    LayerInputs,
    LevelGaps,
    PackedPyramid,
    Tower,
    init_prior_bias,
)
from tal_bench.models.ops.kernels import use_custom_kernels


@dataclass(frozen=True, slots=True)
class RawTrident:
    """Outputs of the four towers, before distances are computed from them.

    Attributes:
        logits: Class logits [B, T_l, K] per level.
        bins: Scores [B, T_l, 2, bins + 1] per level, for each distance from the centre to start and end.
        start: Scores [B, T_l, K] per level of a step being the start of a class.
        end: Scores [B, T_l, K] per level of a step being the end of a class.
    """

    logits: list[Tensor]
    bins: list[Tensor]
    start: list[Tensor]
    end: list[Tensor]


class TridentHeads(nn.Module):
    """Per-class logits and, for each class, expected distances to start and end.

    The boundary towers read detached features, so they do not train the backbone.

    Args:
        spec: Architecture: widths, classes, kernels and bins.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.bins = spec.bins
        self.classifier = Tower(spec, spec.classes)
        self.start = Tower(spec, spec.classes, spec.boundary_kernel)
        self.end = Tower(spec, spec.classes, spec.boundary_kernel)
        self.regressor = Tower(spec, 2 * (spec.bins + 1))
        self.scales = nn.Parameter(torch.ones(spec.levels))
        self.activate = OFFSET_ACTIVATIONS[spec.offset_activation]
        self.gaps = LevelGaps(max(spec.head_kernel, spec.boundary_kernel) // 2)
        for tower in (self.classifier, self.start, self.end):
            init_prior_bias(tower, spec.empty_classes)

    def raw(
        self, features: list[Tensor], masks: list[Tensor], keep: Collection[str] = ()
    ) -> tuple[RawTrident, LayerInputs]:
        """Run the four towers over the pyramid: features [B, T_l, D] and masks [B, T_l, 1] per level.

        Returns:
            Their outputs, and the inputs of the layers that are named in ``keep``.
        """
        packed = PackedPyramid(features, masks, self.gaps)
        detached = PackedPyramid([x.detach() for x in features], masks, self.gaps)
        inputs = LayerInputs(packed, keep)
        votes = packed.split(self.regressor(packed, watch=inputs.of("regressor")))
        return RawTrident(
            logits=packed.split(self.classifier(packed, watch=inputs.of("classifier"))),
            bins=self._bins(votes),
            start=packed.split(self.start(detached)),
            end=packed.split(self.end(detached)),
        ), inputs

    def forward(self, features: list[Tensor], masks: list[Tensor], keep: Collection[str] = ()) -> HeadOutputs:
        """Per level [B, T_l, D] and [B, T_l, 1] -> logits [B, T_l, K] and offsets [B, T_l, K, 2].

        The features of the outputs are the scores, and the inputs of the layers that are named in ``keep``.
        """
        raw, inputs = self.raw(features, masks, keep)
        scores = {"bins": raw.bins, "starts": raw.start, "ends": raw.end}
        levels = zip(raw.bins, raw.start, raw.end, strict=True)
        offsets = [expected_offsets(bins, start, end) for bins, start, end in levels]
        return HeadOutputs(raw.logits, offsets, {**inputs, **scores})

    def resume(self, head: str, layer: int, features: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Run a head from a layer on like `Heads.resume`; the regressor gives bins [B, T_l, 2, bins + 1]."""
        packed = PackedPyramid(features, masks, self.gaps)
        if head == "classifier":
            return packed.split(self.classifier(packed, layer))
        return self._bins(packed.split(self.regressor(packed, layer)))

    def _bins(self, votes: list[Tensor]) -> list[Tensor]:
        return [
            self.activate(x * scale).unflatten(2, (2, self.bins + 1))
            for x, scale in zip(votes, self.scales, strict=True)
        ]


def expected_offsets(bins: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return the expected distances [B, T, K, 2] to start and end, in strides.

    The distance of a step to the start is the mean of the bins 0 ... bins under a softmax; the logit of a bin
    is the start score that many steps before plus the score of that bin at the step itself. The distance to
    the end uses the steps after it. Scores beyond the ends of the level are 0.

    Args:
        bins: Bin scores [B, T, 2, bins + 1]; those to the start are ordered from the farthest bin.
        start: Start scores [B, T, K].
        end: End scores [B, T, K].
    """
    farthest = bins.shape[3] - 1
    distance = torch.arange(farthest + 1, device=bins.device, dtype=bins.dtype)
    before = _windows(F.pad(start, (0, 0, farthest, 0)), farthest + 1)
    after = _windows(F.pad(end, (0, 0, 0, farthest)), farthest + 1)
    # element-wise products and sums, because autocast would round a matrix product
    left = ((before + bins[:, :, None, 0]).softmax(dim=3) * distance.flip(0)).sum(dim=3)
    right = ((after + bins[:, :, None, 1]).softmax(dim=3) * distance).sum(dim=3)
    return torch.stack([left, right], dim=3)


def _windows(x: Tensor, size: int) -> Tensor:
    """[B, T + size - 1, K] -> [B, T, K, size]: every step with the size - 1 steps after it."""
    if use_custom_kernels():
        return x.unfold(1, size, 1)
    # overlapping views would fix the length of an exported graph
    offset = torch.arange(size, device=x.device)
    steps = torch.arange(x.shape[1] - size + 1, device=x.device)[:, None] + offset
    return x[:, steps].transpose(2, 3).contiguous()
