"""Transformer and convolution blocks: features [B, T, C] and mask [B, T, 1] -> the same at their stride."""

from __future__ import annotations

from torch import Tensor, nn

from tal_bench.models.blocks.attention import ConvAttention
from tal_bench.models.layers import AffineDropPath, Conv, LayerNorm, Residual, SeparableConv, masked, relu
from tal_bench.models.ops.kernels import max_pool

ConvLayer = type[Conv] | type[SeparableConv]


class TransformerBlock(nn.Module):
    """Pre-LN attention and MLP with affine drop path; max-pooled skip where the stride is 2 (ActionFormer).

    Args:
        channels: Number of channels C.
        heads: Number of attention heads.
        window: Attention window.
        stride: 1 or 2.
        drop_path: Probability of dropping a branch in training.
        scaled: Whether both branches have a learned scale.
        relative: Whether the attention has a learned position bias.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window: int,
        stride: int,
        drop_path: float,
        *,
        scaled: bool = True,
        relative: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = LayerNorm(channels)
        self.attention = ConvAttention(channels, heads, window, stride, relative=relative)
        self.drop_attention = AffineDropPath(channels, drop_path) if scaled else Residual()
        self.norm2 = LayerNorm(channels)
        self.mlp = nn.Sequential(
            Conv(channels, 4 * channels, kernel=1), nn.GELU(), Conv(4 * channels, channels, kernel=1)
        )
        self.drop_mlp = AffineDropPath(channels, drop_path) if scaled else Residual()

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> [B, T / stride, C], zero where padded.

        After the attention every step is processed independently, so one mask at the end suffices.
        """
        mask = mask[:, :: self.stride]
        skip = max_pool(x) if self.stride == 2 else x
        x = self.drop_attention(skip, self.attention(self.norm1(x), mask))
        hidden, out = self.mlp[0], self.mlp[2]
        assert isinstance(hidden, Conv)
        x = self.drop_mlp(x, out(hidden.forward_gelu(self.norm2(x))))
        return masked(x, mask), mask


class ConvBlock(nn.Module):
    """Two masked convolutions of kernel 3, twice as wide inside, with a strided 1x1 shortcut.

    Args:
        channels: Number of channels C.
        stride: 1 or 2.
        conv: Convolution, also of the shortcut: `Conv`, or `SeparableConv` for the depthwise structure.
    """

    def __init__(self, channels: int, stride: int, conv: ConvLayer = Conv) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = conv(channels, 2 * channels, 3, stride)
        self.conv2 = conv(2 * channels, channels, 3)
        self.shortcut = conv(channels, channels, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, C] -> [B, T / stride, C]."""
        mask = mask[:, :: self.stride]
        out = self.conv2(relu(masked(self.conv1(x), mask)))
        if self.shortcut is None:
            return relu(masked(out, mask) + x), mask
        return relu(masked(out + self.shortcut(x), mask)), mask
