"""Motion and appearance branches of a student that reads primary modalities, fused by attention.

Lee et al., Decomposed Cross-modal Distillation for RGB-based Temporal Action Detection, CVPR 2023, arXiv
2303.17285. No code of the authors is public; `docs/methods.md` says what was known and what was assumed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.config import DetectorSpec
from tal_bench.models.layers import layer_norm, masked
from tal_bench.models.structures import structure_of

BRANCHES = ("motion", "appearance")


class LocalAttentiveFusion(nn.Module):
    """Features of a branch, weighed at every step by what the other branch has there.

    weight_t = sigmoid((W_query mean over time of target) * (W_key reference_t)), element-wise, as published;
    output_t = weight_t * target_t (assumed).

    Args:
        channels: D, the width of both branches.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)

    def forward(self, target: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
        """Two branches [B, T, D], zero where padded, and mask [B, T, 1] -> enhanced target [B, T, D]."""
        steps = mask.float().sum(dim=1, keepdim=True).clamp(min=1)
        whole = target.float().sum(dim=1, keepdim=True) / steps
        weight = (self.query(whole.to(target.dtype)) * self.key(reference)).sigmoid()
        enhanced: Tensor = weight * target
        return enhanced


class DecomposedBranches(nn.Module):
    """Two branches of every level of the neck, and the input of the heads that is fused from them.

    A branch is a convolution of kernel 3, LayerNorm and ReLU, shared by the levels as the heads are.

    Args:
        spec: Architecture: width of the neck, and the structure's convolution.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        width, conv = spec.neck_channels, structure_of(spec).conv
        self.convs = nn.ModuleDict({name: conv(width, width, 3, bias=False) for name in BRANCHES})
        self.norms = nn.ModuleDict({name: layer_norm(width) for name in BRANCHES})
        self.fusion = nn.ModuleDict({name: LocalAttentiveFusion(width) for name in BRANCHES})

    def forward(self, levels: list[Tensor], masks: list[Tensor]) -> dict[str, list[Tensor]]:
        """Neck [B, T_l, D] and mask [B, T_l, 1] per level -> branches [B, T_l, D] per level by name."""
        return {
            name: [self._branch(name, x, mask) for x, mask in zip(levels, masks, strict=True)]
            for name in BRANCHES
        }

    def _branch(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        return F.relu(self.norms[name](masked(self.convs[name](x), mask))) * mask

    def fuse(self, branches: dict[str, list[Tensor]], masks: list[Tensor]) -> list[Tensor]:
        """Branches [B, T_l, D] per level by name -> both, enhanced and concatenated, [B, T_l, 2D]."""
        levels = zip(*(branches[name] for name in BRANCHES), masks, strict=True)
        return [
            torch.cat(
                [
                    self.fusion["motion"](motion, appearance, mask),
                    self.fusion["appearance"](appearance, motion, mask),
                ],
                dim=2,
            )
            for motion, appearance, mask in levels
        ]
