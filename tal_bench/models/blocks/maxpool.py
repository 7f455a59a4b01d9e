"""Block of TemporalMaxer: only max pooling between the levels (arXiv 2303.09055)."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.models.ops.kernels import max_pool


class MaxPoolBlock(nn.Module):
    """Max pooling of kernel 3 and stride 2, without parameters; the identity at stride 1."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> [B, T / stride, C]."""
        mask = mask[:, :: self.stride]
        return (max_pool(x) if self.stride == 2 else x) * mask, mask
