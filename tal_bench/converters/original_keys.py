"""Conversion of state dicts of the original programs: names and shapes of weights.

The programs are ActionFormer, C2MS-Net, TriDet and TemporalMaxer. Norms, scales and relative positions
([1, C, 1] or [1, 1, heads, window] in the originals) are [n] vectors in this package, and the scalar scales
of the regression head per level are one [L] vector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

RULES: tuple[tuple[str, str], ...] = (
    (r"^rgb2flow\.extractor\.0", "inputs.hallucination.conv1"),
    (r"^rgb2flow\.extractor\.1", "inputs.hallucination.conv2"),
    (r"^gateFusion\.hidden1", "inputs.fusion.hidden"),
    (r"^gateFusion\.hidden_sigmoid", "inputs.fusion.gate"),
    (r"\.depth_conv\.", ".depthwise."),
    (r"\.point_conv\.", ".pointwise."),
    (r"^backbone\.embd_norm\.", "backbone.embedding_norms."),
    (r"^backbone\.embd\.", "backbone.embedding."),
    (r"\.ln(\d)\.", r".norm\1."),
    (r"\.drop_path_attn\.", ".drop_attention."),
    (r"\.drop_path_mlp\.", ".drop_mlp."),
    (r"\.mlp\.3\.", ".mlp.2."),
    (r"\.attn\.query_conv", ".attention.depthwise.0"),
    (r"\.attn\.key_conv", ".attention.depthwise.1"),
    (r"\.attn\.value_conv", ".attention.depthwise.2"),
    (r"\.attn\.query_norm", ".attention.norms.0"),
    (r"\.attn\.key_norm", ".attention.norms.1"),
    (r"\.attn\.value_norm", ".attention.norms.2"),
    (r"\.attn\.query\.", ".attention.projections.0."),
    (r"\.attn\.key\.", ".attention.projections.1."),
    (r"\.attn\.value\.", ".attention.projections.2."),
    (r"\.attn\.proj\.", ".attention.out."),
    (r"\.attn\.rel_pe$", ".attention.relative"),
    (r"^backbone\.proj\.", "backbone.projections."),
    (r"\.downsample\.1\.", ".after_pool."),
    (r"\.ln\.", ".norm."),
    (r"\.gn\.", ".group_norm."),
    (r"\.psi\.", ".gate."),
    (r"\.global_fc\.", ".average."),
    (r"^(backbone\.\w+\.\d+)\.fc\.", r"\1.instant."),
    (r"\.convw\.", ".narrow."),
    (r"\.convkw\.", ".wide."),
    (r"\.drop_path_out\.", ".drop_mix."),
    (r"\.downsample\.", ".shortcut."),
    (r"^neck\.fpn_norms\.", "neck.norms."),
    (r"^neck\.lateral_convs\.", "neck.lateral."),
    (r"^neck\.fpn_convs\.", "neck.smooth."),
    (r"^neck\.seblocks\.(\d+)\.fc\.0", r"neck.attention.\1.squeeze"),
    (r"^neck\.seblocks\.(\d+)\.fc\.2", r"neck.attention.\1.excite"),
    (r"^cls_head\.cls_head\.", "heads.classifier.out."),
    (r"^cls_head\.head\.", "heads.classifier.convs."),
    (r"^cls_head\.norm\.", "heads.classifier.norms."),
    (r"^(start|end)_head\.cls_head\.", r"heads.\1.out."),
    (r"^(start|end)_head\.head\.", r"heads.\1.convs."),
    (r"^(start|end)_head\.norm\.", r"heads.\1.norms."),
    (r"^reg_head\.offset_head\.", "heads.regressor.out."),
    (r"^reg_head\.head\.", "heads.regressor.convs."),
    (r"^reg_head\.norm\.", "heads.regressor.norms."),
    (r"\.conv\.", "."),
)
UNUSED = ("gateFusion.hidden2.weight",)
"""Weights that the original creates and never reads."""
BUFFERS = re.compile(r"^(point_generator\.|backbone\.pos_embd$)")
"""Buffers that follow from the settings."""
SCALE = re.compile(r"^reg_head\.scale\.(\d+)\.scale$")


def is_unused(key: str) -> bool:
    """Whether an original key is not needed in this package."""
    return key in UNUSED or BUFFERS.match(key) is not None


def rename(key: str) -> str:
    """Return the name in this package of an original key, except for the scales per level."""
    for pattern, replacement in RULES:
        key = re.sub(pattern, replacement, key)
    return key


def _is_vector(key: str, value: Tensor) -> bool:
    """Whether an original weight becomes a vector [n]: norms, scales [1, C, 1] and relative positions."""
    flat = value.ndim == 3 and value.shape[0] == 1 and value.shape[2] == 1
    return key.endswith("rel_pe") or (flat and not key.endswith("conv.weight"))


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an original state dict to the names and shapes of this package."""
    converted: dict[str, Tensor] = {}
    scales: dict[int, Tensor] = {}
    for key, value in state.items():
        if level := SCALE.match(key):
            scales[int(level[1])] = value
        elif not is_unused(key):
            converted[rename(key)] = value.flatten() if _is_vector(key, value) else value
    if scales:
        converted["heads.scales"] = torch.stack([scales[level].reshape(()) for level in sorted(scales)])
    return converted
