"""Weights in the order that matrix units read them, for networks that only answer.

The library puts half-precision weights in that order in every pass anew, which costs a fifteenth of it. The
operations of oneDNN that take them ready are those that `torch.compile` uses; they also add an activation to
the pass, which is what full precision gains.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

ONEDNN: Any = torch.ops.mkldnn
LENGTH = 2304
"""Steps for which the order is chosen; it serves every length."""
ASKED = (
    "_reorder_linear_weight",
    "_linear_pointwise",
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_is_mkldnn_bf16_supported",
)


def available(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor can use such weights in bf16 or fp32."""
    if not (torch.backends.mkldnn.is_available() and all(hasattr(ONEDNN, name) for name in ASKED)):
        return False
    return dtype == torch.float32 or bool(ONEDNN._is_mkldnn_bf16_supported())


class Packed:
    """A convolution of kernel 1 or 3 over [B, T, C] on the CPU, without gradients.

    Args:
        weight: [D, C, k] in bf16 or fp32.
        bias: [D], alike.
        stride: output step i is centred on input step i * stride.
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
        """Padding, stride and dilation in an image of height 1."""
        return (0, self._kernel // 2), (1, self._stride), (1, 1)

    def __deepcopy__(self, memo: object) -> Packed:
        """Itself: nothing in it changes, and packed weights cannot be copied."""
        return self

    def __call__(self, x: Tensor, activation: Literal["none", "gelu"] = "none") -> Tensor:
        """[B, T, C] -> [B, ceil(T / stride), D] after the activation, in one pass."""
        x = x.to(self._dtype)
        out: Tensor
        if self._kernel == 1:
            steps = x[:, :: self._stride]
            out = ONEDNN._linear_pointwise(steps, self._weight, self._bias, activation, [], "none")
            return out
        image = x.transpose(1, 2).unsqueeze(2)  # of height 1, channels last: no data move
        padding, stride, dilation = self._geometry
        out = ONEDNN._convolution_pointwise(
            image, self._weight, self._bias, padding, stride, dilation, 1, activation, [], "none"
        )
        return out.squeeze(2).transpose(1, 2)
