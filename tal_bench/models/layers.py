"""Layers over sequences that lie channels-last in memory, [B, T, C].

In this layout LayerNorm reads contiguous rows and a convolution of kernel 1 or 3 is a dense matrix product.
Masks are [B, T, 1] in the dtype of the features, 1 where a step is real; as in ActionFormer they are applied
after convolutions but not after LayerNorm.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.models.ops.kernels import (
    compute_dtype,
    dense_conv3,
    depthwise_conv,
    taps_last,
    written_by_hand,
)
from tal_bench.models.ops.op_shortcuts import shortcuts_allowed
from tal_bench.models.ops.packed_weights import Packed, available
from tal_bench.models.ops.winograd import WIDE, Filters, pays


class Conv(nn.Module):
    """1-D convolution with padding k // 2 over [B, T, C_in], as one matrix product.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: odd; 1 and 3 are the fast ones.
        stride: 1 or 2; output step i is centred on input step i * stride.
        bias: whether to add a bias, which starts at 0.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        start = nn.init.kaiming_uniform_(torch.empty(c_out, c_in, kernel), a=math.sqrt(5))
        self.weight = nn.Parameter(taps_last((c_out, c_in, kernel)).copy_(start))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.packed: Packed | None = None
        self.filters: Filters | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C_in] -> [B, ceil(T / stride), C_out]."""
        if self.packed is not None and self._only_answers(x):
            return self.packed(x)
        if self.filters is not None and self._only_answers(x) and pays(x, self.weight):
            return self.filters(x)
        if self.kernel == 1:
            return F.linear(x[:, :: self.stride], self.weight[:, :, 0], self.bias)
        if self.kernel == 3:
            return dense_conv3(x, self.weight, self.bias, self.stride)
        out = F.conv1d(x.transpose(1, 2), self.weight, self.bias, self.stride, self.kernel // 2)
        return out.transpose(1, 2)

    def then_gelu(self, x: Tensor) -> Tensor:
        """GELU(forward(x)); in one pass where the weights are packed."""
        if self.packed is not None and self._only_answers(x):
            return self.packed(x, "gelu")
        return F.gelu(self(x))

    def get_ready(self) -> None:
        """Also keep the weights as a network that only answers reads them fastest, from now on unchanged.

        In full precision this pays for wide layers alone.
        """
        self.packed = self.filters = None
        half = self.weight.dtype == torch.bfloat16
        full = self.weight.dtype == torch.float32 and min(self.weight.shape[:2]) >= WIDE
        if self.weight.device.type != "cpu":
            return
        if available(self.weight.dtype) and ((half and self.kernel in (1, 3)) or (full and self.kernel == 1)):
            self.packed = Packed(self.weight, self.bias, self.stride)
        elif full and self.kernel == 3 and self.stride == 1:
            self.filters = Filters(self.weight, self.bias)

    @property
    def ready_bytes(self) -> int:
        """Memory of what is ready, on top of the weights."""
        return sum(0 if ready is None else ready.nbytes for ready in (self.packed, self.filters))

    def _only_answers(self, x: Tensor) -> bool:
        free = shortcuts_allowed() and written_by_hand() and not torch.is_grad_enabled()
        return free and compute_dtype(x) == self.weight.dtype


class DepthwiseConv(nn.Module):
    """Depthwise 1-D convolution with padding k // 2 over [B, T, C]."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, ceil(T / stride), C]."""
        return depthwise_conv(x, self.weight, self.bias, self.stride)


class SeparableConv(nn.Module):
    """Depthwise convolution followed by a pointwise one, which always has a bias (C2MS-Net's `conv_dw`)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(c_in, kernel, stride, bias)
        self.pointwise = Conv(c_in, c_out, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C_in] -> [B, ceil(T / stride), C_out]."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class Residual(nn.Module):
    """Skip plus branch."""

    def forward(self, skip: Tensor, branch: Tensor) -> Tensor:
        """[B, T, C] twice -> [B, T, C]."""
        return skip + branch


class AffineDropPath(nn.Module):
    """Skip plus branch, scaled per channel by learned factors, dropped per video in training (CaiT)."""

    def __init__(self, channels: int, drop: float, init: float = 1e-4) -> None:
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.full((channels,), init))

    def forward(self, skip: Tensor, branch: Tensor) -> Tensor:
        """[B, T, C] twice -> [B, T, C]."""
        scale = self.scale.to(branch.dtype)
        if self.training and self.drop > 0.0:
            keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop
            scale = scale * keep.to(branch.dtype) / (1.0 - self.drop)
        return torch.addcmul(skip, branch, scale)


class LayerNorm(nn.LayerNorm):
    """LayerNorm over channels that keeps the precision of its input; statistics are in full precision."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type == "cpu":  # takes weights in full precision beside half-precision data
                return super().forward(x)
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


def layer_norm(channels: int, wanted: bool = True) -> nn.Module:
    """LayerNorm over channels, or nothing."""
    return LayerNorm(channels) if wanted else nn.Identity()


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """X times mask of zeros and ones; in place where no gradient will ask for x."""
    if x.requires_grad:
        return x * mask
    if x.dtype == torch.bfloat16:  # once or never the bits: a third of the time of a product of numbers
        x.view(torch.int16).mul_(mask.to(torch.int16))
        return x
    return x.mul_(mask)


def relu(x: Tensor) -> Tensor:
    """ReLU; in place where no gradient will ask for x."""
    return F.relu(x, inplace=not x.requires_grad)


def prepare_for_inference(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy that only answers: matrix weights in `dtype`, if one is given, and ready where that helps.

    What modules keep in `in_full` stays as it is.
    """
    copied = copy.deepcopy(model)
    full = {id(part) for m in copied.modules() for part in getattr(m, "in_full", ())}
    for module in copied.modules():
        if isinstance(module, (Conv, DepthwiseConv, nn.Linear)) and id(module) not in full:
            module.to(dtype=dtype)
            if isinstance(module, Conv):
                module.get_ready()
    return copied


def sinusoidal_positions(length: int, channels: int) -> Tensor:
    """Absolute position embedding [length, channels] divided by sqrt(channels), as ActionFormer adds it."""
    exponent = 2 * (torch.arange(channels, dtype=torch.float64) // 2) / channels
    angle = torch.arange(length, dtype=torch.float64)[:, None] / torch.pow(10000.0, exponent)
    table = torch.where(torch.arange(channels) % 2 == 0, angle.sin(), angle.cos())
    # rounded before the division, as there, so that double precision agrees, too
    return table.float() / math.sqrt(channels)
