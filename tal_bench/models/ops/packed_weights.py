"""Weights in the memory layout of the CPU's matrix units, for inference.

PyTorch reorders half-precision weights in every forward pass, which takes about a fifteenth of its time. The
oneDNN operations that take reordered weights are those that `torch.compile` uses. They can also fuse an
activation, which is the gain in full precision.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

ONEDNN: Any = torch.ops.mkldnn
LENGTH = 2304
"""Sequence length for which oneDNN chooses the layout; the weights work for any length."""
REQUIRED_OPERATIONS = (
    "_reorder_linear_weight",
    "_linear_pointwise",
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_is_mkldnn_bf16_supported",
)


def available(dtype: torch.dtype) -> bool:
    """Whether this PyTorch build and processor support packed weights of a dtype (bf16 or fp32)."""
    if not (
        torch.backends.mkldnn.is_available() and all(hasattr(ONEDNN, name) for name in REQUIRED_OPERATIONS)
    ):
        return False
    return dtype == torch.float32 or bool(ONEDNN._is_mkldnn_bf16_supported())


class PackedConv:
    """Convolution of kernel 1 or 3 over [B, T, C] with packed weights, on the CPU, without gradients.

    Reference: `reference.plain_conv`, followed by GELU where asked for.

    Args:
        weight: Weight [D, C, k] in bf16 or fp32.
        bias: Bias [D] of the same dtype.
        stride: Stride; output step i is centred on input step i * stride.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int) -> None:
        weight = weight.detach()
        self._dtype, self.nbytes = weight.dtype, weight.nbytes
        self._bias, self._stride, self._kernel = bias, stride, weight.shape[2]
        if self._kernel == 1:
            matrix = weight[:, :, 0].contiguous()
            self._weight = ONEDNN._reorder_linear_weight(matrix, LENGTH // stride)
        else:
            image = weight.unsqueeze(2).contiguous()
            size = [1, weight.shape[1], 1, LENGTH]
            self._weight = ONEDNN._reorder_convolution_weight(image, *self._geometry, 1, size)

    @property
    def _geometry(self) -> tuple[tuple[int, int], ...]:
        """Padding, stride and dilation for an image of height 1."""
        return (0, self._kernel // 2), (1, self._stride), (1, 1)

    def __deepcopy__(self, memo: object) -> PackedConv:
        """Return the same object: it is immutable, and packed weights cannot be copied."""
        return self

    def __call__(self, x: Tensor, activation: Literal["none", "gelu"] = "none") -> Tensor:
        """Apply the convolution and then the activation: [B, T, C] -> [B, ceil(T / stride), D]."""
        x = x.to(self._dtype)
        out: Tensor
        if self._kernel == 1:
            steps = x[:, :: self._stride]
            out = ONEDNN._linear_pointwise(steps, self._weight, self._bias, activation, [], "none")
            return out
        image = x.transpose(1, 2).unsqueeze(2)  # of height 1, channels last, so no data are copied
        padding, stride, dilation = self._geometry
        out = ONEDNN._convolution_pointwise(
            image, self._weight, self._bias, padding, stride, dilation, 1, activation, [], "none"
        )
        return out.squeeze(2).transpose(1, 2)
