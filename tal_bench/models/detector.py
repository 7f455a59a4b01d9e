"""The point-based, anchor-free detector: one module for teachers and students of every structure."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.models.backbone import Backbone
from tal_bench.models.branches import DecomposedBranches
from tal_bench.models.heads.features import kept_features
from tal_bench.models.heads.point import HeadOutputs, Heads
from tal_bench.models.heads.trident import TridentHeads
from tal_bench.models.input_fusion import InputFusion
from tal_bench.models.neck import FpnNeck, Neck
from tal_bench.models.ops.kernels import compute_dtype
from tal_bench.types import Batch, DetectorOutput


class Detector(nn.Module):
    """Input fusion -> backbone -> neck -> heads (ActionFormer, arXiv 2202.07925; students as in C2MS-Net).

    A student with decomposed inputs has two branches between neck and heads (`models.branches`).

    Args:
        spec: Architecture.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = InputFusion(spec)
        self.backbone = Backbone(spec)
        self.neck: nn.Module = FpnNeck(spec) if spec.neck == "fpn" else Neck(spec)
        self.branches = DecomposedBranches(spec) if spec.inputs == "decomposed" else None
        self.heads: Heads | TridentHeads = TridentHeads(spec) if spec.trident else Heads(spec)

    def forward(self, batch: Batch, keep: Collection[str] = ()) -> DetectorOutput:
        """Detect in a batch whose T is a multiple of 2^(L-1).

        The outputs of a level are zero where its mask is false.

        Args:
            batch: Batch with the modalities that the detector reads.
            keep: Names of the features of `models.heads.features` that the output contains.
        """
        return self.detect(batch.features, batch.mask, keep)

    def detect(self, features: dict[str, Tensor], mask: Tensor, keep: Collection[str] = ()) -> DetectorOutput:
        """Compute `forward` on plain tensors: features [B, C_m, T] by modality, and mask [B, T] bool."""
        x, m = self.read_inputs(features, mask)
        stem, m = self.compute_stem(x, m)
        levels, masks = self.compute_neck(stem, m)
        heads = self.compute_heads(levels, masks, keep)
        return DetectorOutput(
            heads.logits,
            heads.offsets,
            [level[:, :, 0] > 0 for level in masks],
            inputs=x.transpose(1, 2),
            stem=stem.transpose(1, 2),
            features=kept_features(keep, levels, heads),
        )

    def read_inputs(self, features: dict[str, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, C_m, T] by modality and mask [B, T] bool -> inputs [B, T, C] and mask [B, T, 1]."""
        m = mask.unsqueeze(2).to(compute_dtype(next(iter(features.values()))))
        return self.inputs(features, m), m

    def compute_stem(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [B, T, C] and mask [B, T, 1] -> stem [B, T, D] and its mask."""
        fused = x if self.inputs.fusion is None else self.inputs.fusion(x)
        return self.backbone.compute_stem(fused, mask)

    def compute_neck(self, stem: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Stem [B, T, D] and mask [B, T, 1] -> neck [B, T_l, D] and mask [B, T_l, 1] per level."""
        pyramid, masks = self.backbone.compute_pyramid(stem, mask)
        masks = masks[self.spec.first_level :]
        return self.neck(pyramid, masks), masks

    def compute_heads(
        self, levels: list[Tensor], masks: list[Tensor], keep: Collection[str] = ()
    ) -> HeadOutputs:
        """Neck [B, T_l, D] and mask [B, T_l, 1] per level -> outputs of the heads with the branches."""
        if self.branches is None:
            outputs: HeadOutputs = self.heads(levels, masks, keep)
            return outputs
        branches = self.branches(levels, masks)
        outputs = self.heads(self.branches.fuse(branches, masks), masks, keep)
        return outputs._replace(features={**outputs.features, **branches})
