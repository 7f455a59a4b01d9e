"""Conversion of constructor arguments of the original programs to the specs of this package.

The programs are ActionFormer, C2MS-Net, TriDet and TemporalMaxer. Names of their weights are in
`original_keys`, the architecture that follows from weights in `original_shapes`, and their configuration
files in `original_yaml`. Settings without a counterpart raise an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tal_bench.config import DecodeSpec, DetectorSpec, Inputs, TrainSpec, Window, parse_spec
from tal_bench.errors import InputError
from tal_bench.models.structures import parse_detector

Arguments = Mapping[str, Any]
WHERE = "original configuration"
RESIDUAL_SCALE = re.compile(r"\.drop_path_(attn|mlp|out)\.scale$")


def detector_spec(arguments: Arguments, keys: Iterable[str]) -> DetectorSpec:
    """Return the architecture of constructor arguments and state-dict keys.

    The modalities are `rgb` and `flow` if the input is an even split, and `input0` ... if it is a list. Two
    settings follow from the keys only: temporal attention, which C2MS-Net always has and ActionFormer never,
    and the learned scales, which exist only if drop path is above 0.

    Args:
        arguments: Arguments of `PtTransformer`, `TriDet` or `TemporalMaxerArchitecture`.
        keys: Keys of the state dict, with the original names.

    Raises:
        InputError: If a setting has no counterpart in this package.
    """
    keys = list(keys)
    _require(arguments, "scale_factor", 2)
    width = arguments["embd_dim"]
    structure = _structure(arguments)
    embed, stem, branch = _depths(arguments["backbone_arch"])
    primary, privileged = modalities(arguments["input_dim"])
    value = {
        "structure": "conv-dw" if arguments.get("dw") and structure == "conv" else structure,
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
        # the conv backbone ignores it
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
    return parse_detector(value, where=WHERE)


def train_spec(train_cfg: Arguments, arguments: Arguments | None = None) -> TrainSpec:
    """Return the settings of the losses; of ``arguments``, TriDet's power of the IoU and input noise.

    Missing keys keep the defaults of `TrainSpec`, which are those of ActionFormer for THUMOS14.
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
    """Return the training settings with the optimizer's settings added.

    Raises:
        InputError: If the optimizer is not AdamW with warm-up and cosine schedule.
    """
    for name, known in (("type", "AdamW"), ("warmup", True), ("schedule_type", "cosine")):
        _require(opt_cfg, name, known)
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
    """Return the post-processing settings; TriDet votes by score only."""
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


def _structure(arguments: Arguments) -> str:
    known = {
        "convTransformer": "actionformer",
        "SGP": "tridet",
        "conv": "conv",
        "convPooler": "temporalmaxer",
    }
    kind = arguments["backbone_type"]
    if kind not in known:
        raise InputError(
            f"unknown backbone_type {kind!r}", where=WHERE, hint=f"choose one of {', '.join(known)}"
        )
    return known[kind]


def _depths(arch: Sequence[int]) -> Sequence[int]:
    """Return the numbers of layers of embedding, stem and branch; TemporalMaxer omits its missing stem."""
    return (arch[0], 0, arch[1]) if len(arch) == 2 else arch


def _neck_norm(arguments: Arguments, structure: str) -> bool | str:
    """Return the norm of the neck; TemporalMaxer has a setting of its own and ignores `fpn_with_ln`."""
    if structure != "temporalmaxer":
        return bool(arguments["fpn_with_ln"])
    known: dict[str | None, bool | str] = {"groupnorm": "group", "layernorm": True, None: False}
    name = arguments.get("fpn_norm", "groupnorm")
    if name not in known or arguments.get("num_group", 4) != 4:
        raise InputError(f"fpn_norm {name!r}, num_group {arguments.get('num_group', 4)}", where=WHERE)
    return known[name]


def _inputs(arguments: Arguments) -> Inputs:
    return "hallucinated" if arguments.get("rgbOnly") else "all"


def modalities(input_dim: int | list[int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return primary and privileged modalities: two halves, or the parts of a list."""
    if isinstance(input_dim, list | tuple):
        parts = {f"input{i}": c for i, c in enumerate(input_dim)}
        first = next(iter(parts))
        return {first: parts.pop(first)}, parts
    half = input_dim // 2
    return {"rgb": half}, {"flow": input_dim - half}


def _window(value: int | list[int]) -> Window:
    return value if isinstance(value, int) else tuple(value)


def _tridet(arguments: Arguments) -> dict[str, Any]:
    """Return the fields of `DetectorSpec` that only TriDet sets."""
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


def _require(arguments: Arguments, name: str, known: object) -> None:
    if arguments.get(name, known) != known:
        raise InputError(f"{name} {arguments[name]!r}", where=WHERE, hint=f"only {known!r} is supported")
