"""Layers over channels-last sequences [B, T, C].

In this layout LayerNorm reads contiguous rows, and a convolution of kernel 1 or 3 is a dense matrix product.
Masks are [B, T, 1] in the dtype of the features, 1 where a step is valid. As in ActionFormer they are applied
after convolutions but not after LayerNorm.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_bench.models.ops.depthwise import depthwise_conv
from tal_bench.models.ops.kernels import compute_dtype, dense_conv3, taps_last, use_custom_kernels
from tal_bench.models.ops.op_shortcuts import shortcuts_allowed
from tal_bench.models.ops.packed_weights import PackedConv, available
from tal_bench.models.ops.reference import plain_conv
from tal_bench.models.ops.winograd import MIN_CHANNELS, PreparedWinogradConv, is_faster


class Conv(nn.Module):
    """1-D convolution with padding k // 2 over [B, T, C_in].

    Args:
        c_in: Number of input channels.
        c_out: Number of output channels.
        kernel: Odd kernel size; 1 and 3 have fast implementations.
        stride: 1 or 2; output step i is centred on input step i * stride.
        bias: Whether to add a bias, which is initialised to 0.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        start = nn.init.kaiming_uniform_(torch.empty(c_out, c_in, kernel), a=math.sqrt(5))
        self.weight = nn.Parameter(taps_last((c_out, c_in, kernel)).copy_(start))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.packed: PackedConv | None = None
        self.winograd: PreparedWinogradConv | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C_in] -> [B, ceil(T / stride), C_out]."""
        if self.packed is not None and self._can_use_prepared(x):
            return self.packed(x)
        if self.winograd is not None and self._can_use_prepared(x) and is_faster(x, self.weight):
            return self.winograd(x)
        if self.kernel == 1:
            return F.linear(x[:, :: self.stride], self.weight.squeeze(2), self.bias)
        if self.kernel == 3:
            return dense_conv3(x, self.weight, self.bias, self.stride)
        return plain_conv(x, self.weight, self.bias, self.stride)

    def forward_gelu(self, x: Tensor) -> Tensor:
        """Return GELU(forward(x)), fused into one operation where the weights are packed."""
        if self.packed is not None and self._can_use_prepared(x):
            return self.packed(x, "gelu")
        return F.gelu(self(x))

    def prepare_for_inference(self) -> None:
        """Also store the weights in the form that is fastest for inference; they must not change afterwards.

        In full precision only wide layers are prepared.
        """
        self.packed = self.winograd = None
        half = self.weight.dtype == torch.bfloat16
        full = self.weight.dtype == torch.float32 and min(self.weight.shape[:2]) >= MIN_CHANNELS
        if self.weight.device.type != "cpu":
            return
        if available(self.weight.dtype) and ((half and self.kernel in (1, 3)) or (full and self.kernel == 1)):
            self.packed = PackedConv(self.weight, self.bias, self.stride)
        elif full and self.kernel == 3 and self.stride == 1:
            self.winograd = PreparedWinogradConv(self.weight, self.bias)

    @property
    def prepared_bytes(self) -> int:
        """Memory of the prepared weights, in addition to the weights themselves."""
        return sum(0 if part is None else part.nbytes for part in (self.packed, self.winograd))

    def _can_use_prepared(self, x: Tensor) -> bool:
        allowed = shortcuts_allowed() and use_custom_kernels() and not torch.is_grad_enabled()
        return allowed and compute_dtype(x) == self.weight.dtype


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
    """Depthwise convolution followed by a pointwise one, which always has a bias (`conv_dw` of C2MS-Net)."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv(c_in, kernel, stride, bias)
        self.pointwise = Conv(c_in, c_out, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C_in] -> [B, ceil(T / stride), C_out]."""
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


class Residual(nn.Module):
    """Sum of skip connection and branch."""

    def forward(self, skip: Tensor, branch: Tensor) -> Tensor:
        """Skip [B, T, C] and branch [B, T, C] -> [B, T, C]."""
        return skip + branch


class AffineDropPath(nn.Module):
    """Sum of skip connection and branch; the branch is scaled by learned factors per channel (CaiT).

    In training the branch is dropped per video with probability ``drop``.
    """

    def __init__(self, channels: int, drop: float, init: float = 1e-4) -> None:
        super().__init__()
        self.drop = drop
        self.scale = nn.Parameter(torch.full((channels,), init))

    def forward(self, skip: Tensor, branch: Tensor) -> Tensor:
        """Skip [B, T, C] and branch [B, T, C] -> [B, T, C]."""
        scale = self.scale.to(branch.dtype)
        if self.training and self.drop > 0.0:
            keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop
            scale = scale * keep.to(branch.dtype) / (1.0 - self.drop)
        return torch.addcmul(skip, branch, scale)


class LayerNorm(nn.LayerNorm):
    """LayerNorm over channels that keeps the dtype of its input; all else is in full precision."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            if x.device.type == "cpu":  # accepts fp32 weights with half-precision inputs
                return super().forward(x)
            return self.in_full_precision(x)

    def in_full_precision(self, x: Tensor) -> Tensor:
        """Compute `forward` where the library wants weights of the dtype of x, without rounding them."""
        return super().forward(x.float()).to(x.dtype)


def layer_norm(channels: int, wanted: bool = True) -> nn.Module:
    """Return a LayerNorm over channels, or an identity unless it is wanted."""
    return LayerNorm(channels) if wanted else nn.Identity()


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Return x times a mask of zeros and ones; computed in place where x needs no gradient."""
    if x.requires_grad:
        return x * mask
    if x.dtype == torch.bfloat16:  # multiplying the bits takes a third of the time
        x.view(torch.int16).mul_(mask.to(torch.int16))
        return x
    return x.mul_(mask)


def relu(x: Tensor) -> Tensor:
    """ReLU; computed in place where x needs no gradient."""
    return F.relu(x, inplace=not x.requires_grad)


def prepare_for_inference(model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
    """Return a copy for inference, with weights prepared where that is faster.

    Args:
        model: Network, which is left unchanged.
        dtype: Dtype to which the weights of matrix products are converted; None keeps theirs. Modules listed
            in a `full_precision_modules` attribute are not converted and not prepared.
    """
    copied = copy.deepcopy(model)
    full = {id(part) for m in copied.modules() for part in getattr(m, "full_precision_modules", ())}
    for module in copied.modules():
        if isinstance(module, (Conv, DepthwiseConv, nn.Linear)) and id(module) not in full:
            module.to(dtype=dtype)
            if isinstance(module, Conv):
                module.prepare_for_inference()
    return copied


def sinusoidal_positions(length: int, channels: int) -> Tensor:
    """Return the absolute position embedding [length, channels] / sqrt(channels) of ActionFormer."""
    exponent = 2 * (torch.arange(channels, dtype=torch.float64) // 2) / channels
    angle = torch.arange(length, dtype=torch.float64)[:, None] / torch.pow(10000.0, exponent)
    table = torch.where(torch.arange(channels) % 2 == 0, angle.sin(), angle.cos())
    # rounded before the division, as in ActionFormer, so that results agree in double precision too
    return table.float() / math.sqrt(channels)
