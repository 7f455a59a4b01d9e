"""Operations that a GPU cannot repeat bit by bit, as `torch.use_deterministic_algorithms` documents them."""

from __future__ import annotations

import re

import torch

WITHOUT_ALGORITHM: dict[str, tuple[str, ...]] = {
    "AvgPool3d": ("avg_pool3d_backward",),
    "AdaptiveAvgPool2d": ("_adaptive_avg_pool2d_backward",),
    "AdaptiveAvgPool3d": ("_adaptive_avg_pool3d_backward",),
    "AdaptiveMaxPool2d": ("adaptive_max_pool2d_backward",),
    "FractionalMaxPool2d": ("fractional_max_pool2d_backward",),
    "FractionalMaxPool3d": ("fractional_max_pool3d_backward",),
    "MaxPool3d": ("max_pool3d_with_indices_backward",),
    "MaxUnpool1d": ("max_unpool2d",),
    "MaxUnpool2d": ("max_unpool2d",),
    "MaxUnpool3d": ("max_unpool3d",),
    "interpolate": (
        "upsample_linear1d_backward",
        "upsample_bilinear2d_backward",
        "_upsample_bilinear2d_aa_backward",
        "upsample_bicubic2d_backward",
        "_upsample_bicubic2d_aa_backward",
        "upsample_trilinear3d_backward",
    ),
    "ReflectionPad1d": ("reflection_pad1d_backward",),
    "ReflectionPad2d": ("reflection_pad2d_backward",),
    "ReflectionPad3d": ("reflection_pad3d_backward",),
    "ReplicationPad1d": ("replication_pad1d_backward",),
    "ReplicationPad2d": ("replication_pad2d_backward",),
    "ReplicationPad3d": ("replication_pad3d_backward",),
    "NLLLoss": ("nll_loss_forward", "nll_loss2d_forward"),
    "CTCLoss": ("_ctc_loss_backward", "_cudnn_ctc_loss"),
    "EmbeddingBag": ("_embedding_bag_backward", "_embedding_bag_dense_backward"),
    "put_": ("put_",),
    "histc": ("histc",),
    "bincount": ("bincount",),
    "kthvalue": ("kthvalue",),
    "median": ("median", "nanmedian"),
    "grid_sample": ("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
    "scatter_reduce": ("scatter_reduce",),
    "cumsum": ("cumsum",),
    "resize_": (),
    "index_put": (),
    "index_reduce": (),
    "Embedding": (),
    "MaxPool2d": (),
}
"""Documented name to its operations of ATen; none where another kind of device or tensor is meant.

Versions of PyTorch differ: sums that accumulate (`cumsum`) and gradients of replication padding have a
deterministic algorithm only in later ones.
"""
OPERATIONS = {operation for operations in WITHOUT_ALGORITHM.values() for operation in operations}
OF_FLOATS = {"cumsum"}
"""Operations for which only floating-point numbers matter."""


def documented() -> set[str]:
    """Return the last part of the names that the installed PyTorch documents as raising an error."""
    text = torch.use_deterministic_algorithms.__doc__ or ""
    listed = text.partition("`RuntimeError` when ``mode=True``:")[2].partition("In addition,")[0]
    return {name.split(".")[-1] for name in re.findall(r":(?:class|func|meth):`([\w.]+)`", listed)}
