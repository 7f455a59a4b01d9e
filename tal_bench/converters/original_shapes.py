"""Inference of the architecture of an original program from the names and shapes of its weights.

Settings that do not affect the weights keep their published values for THUMOS14: attention heads and window,
maximum length without temporal attention, regression ranges, and an input of half RGB and half flow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from tal_bench.config import DetectorSpec
from tal_bench.converters.original_config import RESIDUAL_SCALE, WHERE, modalities
from tal_bench.errors import InputError
from tal_bench.models.blocks.sgp import wide_kernel
from tal_bench.models.structures import parse_detector

Shapes = Mapping[str, tuple[int, ...]]
LOGITS = "cls_head.cls_head.conv.weight"
POSITIONS = "backbone.pos_embd"
"""Table of positions [1, D, T], which some versions store with the weights."""


def detector_spec_from_shapes(shapes: Shapes, *, where: object = WHERE) -> DetectorSpec:
    """Return the architecture of ActionFormer, C2MS-Net, TriDet or TemporalMaxer with these weights.

    Args:
        shapes: Shapes by state-dict key, with the original names.
        where: Name of the file, for error messages.

    Raises:
        InputError: If the weights are of none of these programs.
    """
    try:
        value = _spec_fields(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        missing = f": no {error.args[0]}" if isinstance(error, KeyError) else ""
        raise InputError(
            f"{len(shapes)} weights fit none of the known programs{missing}",
            where=where,
            hint="give the state dict of ActionFormer, C2MS-Net, TriDet or TemporalMaxer",
        ) from None
    return parse_detector(value, where=where)


def _spec_fields(shapes: Shapes) -> dict[str, Any]:
    structure = _structure(shapes)
    logits = shapes[LOGITS]
    first = shapes[_dense("backbone.embd.0", shapes)]
    levels = _count(r"^reg_head\.scale\.(\d+)\.", shapes)
    branch = levels - 1 if structure == "temporalmaxer" else _count(r"^backbone\.branch\.(\d+)\.", shapes)
    if not (levels and branch and len(first) == len(logits) == 3):
        raise KeyError("levels")
    first_level = branch + 1 - levels
    width = first[0]
    return {
        "structure": structure,
        **_inputs(shapes, first[1]),
        "classes": logits[0],
        "width": width,
        "head_width": logits[1],
        "embed_layers": _count(r"^backbone\.embd\.(\d+)\.", shapes),
        "stem_blocks": _count(r"^backbone\.stem\.(\d+)\.", shapes),
        "branch_blocks": branch,
        "first_level": first_level,
        "head_layers": _count(r"^cls_head\.head\.(\d+)\.", shapes),
        "embed_kernel": shapes[_spatial("backbone.embd.0", shapes)][2],
        "head_kernel": logits[2],
        "embed_norm": "backbone.embd_norm.0.weight" in shapes,
        "head_norm": "cls_head.norm.0.weight" in shapes or "cls_head.head.0.conv.weight" not in shapes,
        **_neck(shapes, structure),
        "residual_scale": any(RESIDUAL_SCALE.search(key) for key in shapes),
        "masked_hallucination": False,
        "regression_ranges": published_ranges(levels),
        **_attention(shapes, structure),
        **_length(shapes, first_level),
        **(_sgp(shapes, branch) if structure == "tridet" else {}),
        **_trident(shapes),
    }


def _structure(shapes: Shapes) -> str:
    if any(".attn." in key for key in shapes):
        return "actionformer"
    if any(".psi." in key for key in shapes):
        return "tridet"
    if not any(key.startswith("backbone.branch.") for key in shapes):
        return "temporalmaxer"
    return "conv-dw" if any(".depth_conv." in key for key in shapes) else "conv"


def _inputs(shapes: Shapes, channels: int) -> dict[str, Any]:
    """Return the fields about modalities and their widths."""
    projected = _count(r"^backbone\.proj\.(\d+)\.", shapes)
    dense = [shapes[_dense(f"backbone.proj.{i}", shapes)] for i in range(projected)]
    primary, privileged = modalities([c_in for _, c_in, _ in dense] if dense else channels)
    hallucinated = shapes.get("rgb2flow.extractor.0.weight")
    if hallucinated is not None:
        primary, privileged = {"rgb": hallucinated[1]}, {"flow": hallucinated[0]}
    return {
        "inputs": "hallucinated" if hallucinated is not None else "all",
        "primary": primary,
        "privileged": privileged,
        "projection": [c_out for c_out, _, _ in dense],
        "gated_fusion": any(key.startswith("gateFusion.") for key in shapes),
    }


def _neck(shapes: Shapes, structure: str) -> dict[str, Any]:
    """Return the fields about the neck; TemporalMaxer's default is a group normalisation without weights."""
    default: bool | str = "group" if structure == "temporalmaxer" else False
    norm = True if "neck.fpn_norms.0.weight" in shapes else default
    lateral = shapes.get("neck.lateral_convs.0.conv.weight")
    if lateral is None:
        return {"neck": "identity", "neck_norm": norm}
    return {"neck": "fpn", "neck_norm": norm, "neck_width": lateral[0]}


def _attention(shapes: Shapes, structure: str) -> dict[str, Any]:
    """Return heads and window if there are relative positions [1, 1, heads, window], else nothing."""
    relative = next((shape for key, shape in shapes.items() if key.endswith(".attn.rel_pe")), None)
    if relative is not None:
        return {"relative_positions": True, "attention_heads": relative[2], "attention_window": relative[3]}
    return {"attention_window": 1, "attention_heads": 1} if structure in ("temporalmaxer", "tridet") else {}


def _length(shapes: Shapes, first_level: int) -> dict[str, Any]:
    squeeze, positions = shapes.get("neck.seblocks.0.fc.0.weight"), shapes.get(POSITIONS)
    fields: dict[str, Any] = {"temporal_attention": squeeze is not None}
    if positions is not None:
        fields |= {"position_embedding": True, "max_length": positions[2]}
    if squeeze is not None:
        fields["max_length"] = squeeze[1] * 2**first_level
    return fields


def _sgp(shapes: Shapes, branch: int) -> dict[str, Any]:
    """Return windows, hidden width, pooling, and one of the scales that give the kernels of the weights."""
    windows = [shapes[f"backbone.branch.{i}.psi.weight"][2] for i in range(branch)]
    wide = [shapes[f"backbone.branch.{i}.convkw.weight"][2] for i in range(branch)]
    candidates = [s / (w + 1) for w, size in zip(windows, wide, strict=True) for s in (size - 1, size)]
    fitting = [
        k
        for k in candidates
        if k > 0 and all(wide_kernel(w, k) == size for w, size in zip(windows, wide, strict=True))
    ]
    if not fitting:
        raise KeyError(f"one scale for kernels {windows} and {wide}")
    return {
        "sgp_window": windows[0] if len(set(windows)) == 1 else [1, *windows],
        "sgp_scale": fitting[0],
        "sgp_hidden": shapes["backbone.branch.0.mlp.0.weight"][0],
        "sgp_pool": "avg" if any(".downsample.1." in key for key in shapes) else "max",
    }


def _trident(shapes: Shapes) -> dict[str, Any]:
    boundary = shapes.get("start_head.cls_head.conv.weight")
    if boundary is None:
        return {}
    votes = shapes["reg_head.offset_head.conv.weight"][0]
    return {"trident": True, "bins": votes // 2 - 1, "boundary_kernel": boundary[2]}


def published_ranges(levels: int) -> list[tuple[float, float]]:
    """Return the ranges published for THUMOS14: [0, 4), [4, 8), [8, 16) ..., the last one up to 10000."""
    edges = [0.0, *(2.0 ** (i + 2) for i in range(levels - 1)), 10000.0]
    return list(pairwise(edges))


def _count(pattern: str, keys: Iterable[str]) -> int:
    """Return the number of distinct indices that the pattern finds in the keys."""
    return len({match[1] for key in keys if (match := re.search(pattern, key))})


def _dense(layer: str, shapes: Shapes) -> str:
    """Return the key of the weight [D, C, k] of a convolution, or of its pointwise part if separable."""
    return _part(layer, "point_conv", shapes)


def _spatial(layer: str, shapes: Shapes) -> str:
    """Return the key of the weight with the kernel's size: of the depthwise part if separable."""
    return _part(layer, "depth_conv", shapes)


def _part(layer: str, part: str, shapes: Shapes) -> str:
    separable = f"{layer}.conv.{part}.weight"
    return separable if separable in shapes else f"{layer}.conv.weight"
