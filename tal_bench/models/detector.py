"""The point-based, anchor-free detector: one module for teachers and students of every structure."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.config import DetectorSpec
from tal_bench.models.backbone import Backbone
from tal_bench.models.heads import Heads
from tal_bench.models.inputs import Inputs
from tal_bench.models.layers import compute_dtype
from tal_bench.models.neck import FpnNeck, Neck
from tal_bench.models.trident import TridentHeads
from tal_bench.types import Batch, DetectorOutput


class Detector(nn.Module):
    """Inputs -> backbone -> neck -> heads (ActionFormer, arXiv 2202.07925; C2MS-Net for the students).

    Args:
        spec: the architecture.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.inputs = Inputs(spec)
        self.backbone = Backbone(spec)
        self.neck: nn.Module = FpnNeck(spec) if spec.neck == "fpn" else Neck(spec)
        self.heads: nn.Module = TridentHeads(spec) if spec.trident else Heads(spec)

    def forward(self, batch: Batch) -> DetectorOutput:
        """Detect in a batch whose T is a multiple of 2^(L-1).

        The output of a level is zero where its mask is false.
        """
        return self.detect(batch.features, batch.mask)

    def detect(self, features: dict[str, Tensor], mask: Tensor) -> DetectorOutput:
        """Modality to [B, C_m, T], and mask [B, T] bool: what `forward` does, on plain tensors."""
        m = mask.unsqueeze(2).to(compute_dtype(next(iter(features.values()))))
        x = self.inputs(features, m)
        fused = x if self.inputs.fusion is None else self.inputs.fusion(x)
        pyramid, masks = self.backbone(fused, m)
        masks = masks[self.spec.first_level :]
        logits, offsets = self.heads(self.neck(pyramid, masks), masks)
        stem = pyramid[0]
        return DetectorOutput(
            logits=logits,
            offsets=offsets,
            mask=[level[:, :, 0] > 0 for level in masks],
            inputs=x.transpose(1, 2),
            stem=stem.transpose(1, 2),
        )
