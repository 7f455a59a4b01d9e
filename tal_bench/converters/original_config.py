"""Settings of the original programs in the terms of our specifications.

The programs are ActionFormer, C2MS-Net, TriDet and TemporalMaxer. This is the one place that knows the names
of their constructor arguments; `original_keys` knows those of their weights, `original_shapes` what weights
tell by themselves, `original_yaml` how their configuration files become arguments. What cannot be expressed
here is refused rather than ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tal_bench.config import DecodeSpec, DetectorSpec, Inputs, Structure, TrainSpec, Window, parse_spec
from tal_bench.errors import InputError

Arguments = Mapping[str, Any]
WHERE = "original configuration"
RESIDUAL_SCALE = re.compile(r"\.drop_path_(attn|mlp|out)\.scale$")


def detector_spec(arguments: Arguments, keys: Iterable[str]) -> DetectorSpec:
    """The architecture that these constructor arguments and state-dict keys belong to.

    A modality is named `rgb` or `flow` where there are two halves, `input0` ... where the input is a list.
    Keys decide what the arguments do not say: temporal attention, which C2MS-Net always has and
    ActionFormer never, and the learned scales, which exist only where drop path is above 0.

    Args:
        arguments: of `PtTransformer`, `TriDet` or `TemporalMaxerArchitecture`.
        keys: of the state dict, in the original names.

    Raises:
        InputError: a setting that has no counterpart here.
    """
    keys = list(keys)
    _refuse(arguments, "scale_factor", 2)
    width = arguments["embd_dim"]
    structure = _structure(arguments)
    embed, stem, branch = _depths(arguments["backbone_arch"])
    primary, privileged = modalities(arguments["input_dim"])
    value = {
        "structure": "conv_dw" if arguments.get("dw") and structure == "conv" else structure,
        "inputs": _inputs(arguments),
        "primary": primary,
        "privileged": privileged,
        "projection": list(width) if isinstance(width, list | tuple) else [],
        "classes": arguments["num_classes"],
        "max_length": arguments["max_seq_len"],
        "width": sum(width) if isinstance(width, list | tuple) else width,
        "neck": arguments["fpn_type"],
        "neck_width": arguments["fpn_dim"],
        "head_width": arguments["head_dim"],
        "attention_heads": arguments.get("n_head", 1),
        "attention_window": _window(arguments.get("n_mha_win_size", 1)),
        "relative_positions": arguments.get("use_rel_pe", False),
        # the conv backbone takes no notice of it
        "position_embedding": arguments.get("use_abs_pe", False) and structure != "conv",
        "embed_layers": embed,
        "stem_blocks": stem,
        "branch_blocks": branch,
        "first_level": arguments.get("fpn_start_level", 0),
        "head_layers": arguments["head_num_layers"] - 1,
        "embed_kernel": arguments["embd_kernel_size"],
        "head_kernel": arguments["head_kernel_size"],
        "embed_norm": arguments["embd_with_ln"],
        "neck_norm": _neck_norm(arguments, structure),
        "head_norm": arguments["head_with_ln"],
        "drop_path": arguments["train_cfg"]["droppath"],
        "residual_scale": any(RESIDUAL_SCALE.search(key) for key in keys),
        "temporal_attention": any(key.startswith("neck.seblocks.") for key in keys),
        "gated_fusion": arguments.get("gateFusion", False),
        "masked_hallucination": False,
        "regression_ranges": arguments["regression_range"],
        "empty_classes": arguments["train_cfg"]["head_empty_cls"],
        **_tridet(arguments),
    }
    return parse_spec(DetectorSpec, value, where=WHERE)


def train_spec(train_cfg: Arguments, arguments: Arguments | None = None) -> TrainSpec:
    """The losses' settings; of TriDet's arguments the power of the IoU and the noise.

    Keys that are missing keep our defaults, which are ActionFormer's for THUMOS14.
    """
    arguments = arguments or {}
    radius = train_cfg.get("center_sample_radius", 1.5)
    weight = train_cfg.get("loss_weight", 1.0)
    clip = train_cfg.get("clip_grad_l2norm", 1.0)
    value = {
        "radius": radius if train_cfg.get("center_sample", "radius") == "radius" else None,
        "regression_weight": weight if weight > 0 else "balanced",
        "clip": clip if clip > 0 else None,
        "label_smoothing": train_cfg.get("label_smoothing", 0.0),
        "loss_normalizer": train_cfg.get("init_loss_norm", 100.0),
        "iou_power": arguments.get("iou_weight_power", 0.0) if arguments.get("use_trident_head") else 0.0,
        "input_noise": arguments.get("input_noise", 0.0),
    }
    return parse_spec(TrainSpec, value, where=WHERE)


def schedule(base: TrainSpec, opt_cfg: Arguments, ema_decay: float = 0.999) -> TrainSpec:
    """Add the optimiser's settings.

    Raises:
        InputError: another optimiser or schedule than AdamW with warm-up and cosine.
    """
    for name, known in (("type", "AdamW"), ("warmup", True), ("schedule_type", "cosine")):
        _refuse(opt_cfg, name, known)
    return base.model_copy(
        update={
            "lr": opt_cfg["learning_rate"],
            "weight_decay": opt_cfg["weight_decay"],
            "epochs": opt_cfg["epochs"],
            "warmup_epochs": opt_cfg["warmup_epochs"],
            "ema": ema_decay,
        }
    )


def decode_spec(test_cfg: Arguments, *, tridet: bool = False) -> DecodeSpec:
    """From logits to segments; TriDet votes by score alone."""
    methods = {"soft": "gaussian", "hard": "hard", "none": "none"}
    value = {
        "candidate_score": test_cfg["pre_nms_thresh"],
        "min_score": test_cfg["min_score"],
        "topk": test_cfg["pre_nms_topk"],
        "min_length": test_cfg["duration_thresh"],
        "nms": methods.get(test_cfg["nms_method"], test_cfg["nms_method"]),
        "nms_sigma": test_cfg["nms_sigma"],
        "nms_iou": test_cfg["iou_threshold"],
        "max_detections": test_cfg["max_seg_num"],
        "class_agnostic": not test_cfg["multiclass_nms"],
        "voting": test_cfg["voting_thresh"],
        "voting_weight": "score" if tridet else "score-iou",
    }
    return parse_spec(DecodeSpec, value, where=WHERE)


def _structure(arguments: Arguments) -> Structure:
    known: dict[str, Structure] = {
        "convTransformer": "transformer",
        "SGP": "sgp",
        "conv": "conv",
        "convPooler": "maxpool",
    }
    kind = arguments["backbone_type"]
    if kind not in known:
        raise InputError(f"backbone_type {kind!r}", where=WHERE, hint=f"known are {', '.join(known)}")
    return known[kind]


def _depths(arch: Sequence[int]) -> Sequence[int]:
    """Layers of embedding, stem and branch; TemporalMaxer has no stem and does not say so."""
    return (arch[0], 0, arch[1]) if len(arch) == 2 else arch


def _neck_norm(arguments: Arguments, structure: Structure) -> bool | str:
    """TemporalMaxer names the norm of its neck, and takes no notice of `fpn_with_ln`."""
    if structure != "maxpool":
        return bool(arguments["fpn_with_ln"])
    known: dict[str | None, bool | str] = {"groupnorm": "group", "layernorm": True, None: False}
    name = arguments.get("fpn_norm", "groupnorm")
    if name not in known or arguments.get("num_group", 4) != 4:
        raise InputError(f"fpn_norm {name!r}, num_group {arguments.get('num_group', 4)}", where=WHERE)
    return known[name]


def _inputs(arguments: Arguments) -> Inputs:
    return "hallucinated" if arguments.get("rgbOnly") else "all"


def modalities(input_dim: int | list[int]) -> tuple[dict[str, int], dict[str, int]]:
    """Primary and privileged modalities: the two halves, or the parts of a list."""
    if isinstance(input_dim, list | tuple):
        parts = {f"input{i}": c for i, c in enumerate(input_dim)}
        first = next(iter(parts))
        return {first: parts.pop(first)}, parts
    half = input_dim // 2
    return {"rgb": half}, {"flow": input_dim - half}


def _window(given: int | list[int]) -> Window:
    return given if isinstance(given, int) else tuple(given)


def _tridet(arguments: Arguments) -> dict[str, Any]:
    """TriDet's own arguments, under our names."""
    if "n_sgp_win_size" not in arguments:
        return {}
    return {
        "trident": arguments["use_trident_head"],
        "bins": arguments["num_bins"],
        "boundary_kernel": arguments["boudary_kernel_size"],
        "sgp_window": _window(arguments["n_sgp_win_size"]),
        "sgp_scale": arguments["k"],
        "sgp_hidden": arguments["sgp_mlp_dim"],
        "sgp_pool": arguments["downsample_type"],
    }


def _refuse(arguments: Arguments, name: str, known: object) -> None:
    if arguments.get(name, known) != known:
        raise InputError(f"{name} {arguments[name]!r}", where=WHERE, hint=f"only {known!r} is supported")
