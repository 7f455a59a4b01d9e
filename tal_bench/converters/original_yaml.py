"""The original programs and their configuration files.

A configuration file contains only differences from the defaults in the program, so these are repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tal_bench.config import DecodeSpec, DetectorSpec, read_yaml
from tal_bench.converters.original_config import Arguments, decode_spec, detector_spec
from tal_bench.errors import InputError
from tal_bench.models.blocks.sgp import wide_kernel

MODEL: dict[str, Any] = {
    "fpn_type": "identity",
    "backbone_arch": [2, 2, 5],
    "scale_factor": 2,
    "regression_range": [[0, 4], [4, 8], [8, 16], [16, 32], [32, 64], [64, 10000]],
    "embd_kernel_size": 3,
    "embd_dim": 512,
    "embd_with_ln": True,
    "fpn_dim": 512,
    "fpn_with_ln": True,
    "fpn_start_level": 0,
    "head_dim": 512,
    "head_kernel_size": 3,
    "head_num_layers": 3,
    "head_with_ln": True,
}
ATTENTION = {
    "backbone_type": "convTransformer",
    "n_head": 4,
    "n_mha_win_size": -1,
    "use_abs_pe": False,
    "use_rel_pe": False,
}
TRIDENT = {
    "backbone_type": "SGP",
    "n_sgp_win_size": -1,
    "use_abs_pe": False,
    "use_trident_head": True,
    "downsample_type": "max",
    "k": 1.5,
    "num_bins": 16,
    "boudary_kernel_size": 3,
    "iou_weight_power": 1.0,
    "input_noise": 0.0,
}
POOLER = {"backbone_type": "convPooler", "backbone_arch": [2, 5]}
DATASET = {
    "feat_stride": 16,
    "num_frames": 32,
    "default_fps": None,
    "input_dim": 2304,
    "num_classes": 97,
    "downsample_rate": 1,
    "max_seq_len": 2304,
    "force_upsampling": False,
}
TRAIN = {"head_empty_cls": [], "droppath": 0.1}
TEST = {
    "pre_nms_thresh": 0.001,
    "pre_nms_topk": 5000,
    "iou_threshold": 0.1,
    "min_score": 0.01,
    "max_seg_num": 1000,
    "nms_method": "soft",
    "nms_sigma": 0.5,
    "duration_thresh": 0.05,
    "multiclass_nms": True,
    "ext_score_file": None,
    "voting_thresh": 0.75,
}
SET_IN_CODE = ("backbone_type", "rgbOnly", "dw", "gateFusion")
"""Settings that C2MS-Net's programs make after reading their file, which therefore follow from weights."""
NOT_COMPARABLE = frozenset(
    {
        "primary",
        "privileged",
        "max_length",
        "attention_heads",
        "attention_window",
        "position_embedding",
        "regression_ranges",
        "empty_classes",
        "drop_path",
        "neck_width",
        "sgp_scale",
    }
)
"""Fields in which a file and weights cannot be compared directly."""


@dataclass(frozen=True, slots=True)
class Program:
    """Original program.

    Attributes:
        title: Name in messages.
        structures: Structures that it supports.
        model: Defaults of the program, in addition to those common to all programs.
        decode: Post-processing settings for THUMOS14.
    """

    title: str
    structures: tuple[str, ...]
    model: Mapping[str, Any]
    decode: DecodeSpec = field(default_factory=DecodeSpec)


PROGRAMS: dict[str, Program] = {
    "actionformer": Program("ActionFormer", ("actionformer", "conv"), ATTENTION),
    "tridet": Program(
        "TriDet", ("tridet", "conv"), TRIDENT, DecodeSpec(max_detections=2000, voting_weight="score")
    ),
    "temporalmaxer": Program("TemporalMaxer", ("temporalmaxer",), POOLER),
    "c2ms": Program("C2MS-Net", ("actionformer", "conv", "conv-dw"), ATTENTION),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a configuration file.

    Attributes:
        detector: Architecture.
        decode: Post-processing settings.
        grid: `stride`, `window` and `fps` of the features; None if every video has its own.
        notes: Settings of the file that are ignored.
    """

    detector: DetectorSpec
    decode: DecodeSpec
    grid: dict[str, float | None] | None
    notes: tuple[str, ...]


def read_settings(path: Path, program: str, weights: DetectorSpec, keys: Sequence[str]) -> Settings:
    """Read a configuration file and check it against the weights that it belongs to.

    Args:
        path: Configuration file (YAML) of the original program.
        program: Key of `PROGRAMS`.
        weights: Architecture inferred from the weights.
        keys: Keys of the state dict, with the original names.

    Raises:
        InputError: If the file is missing, not a configuration of the program, or differs from the weights.
    """
    sections = _sections(path)
    known = PROGRAMS[program]
    model = {**MODEL, **known.model, **sections["model"]}
    data = {**DATASET, **sections["dataset"]}
    test = {**TEST, **sections["test_cfg"]}
    arguments = {
        **model,
        "input_dim": data["input_dim"],
        "num_classes": data["num_classes"],
        "max_seq_len": data["max_seq_len"],
        "train_cfg": {**TRAIN, **sections["train_cfg"]},
    }
    if program == "c2ms":
        arguments |= _settings_in_code(weights)
    try:
        detector = detector_spec(arguments, keys)
        decode = decode_spec(test, tridet=program == "tridet")
        grid = _grid(data)
    except InputError as error:
        raise InputError(error.what, where=path, hint=error.hint) from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(f"not a configuration of {known.title}: {error}", where=path) from None
    if different := disagreements(detector, weights):
        raise InputError(
            "the file and the weights differ: " + "; ".join(different[:3]),
            where=path,
            hint="give the configuration with which these weights were trained",
        )
    notes = ("external video-level scores (ext_score_file) are ignored",) if test["ext_score_file"] else ()
    return Settings(_with_window(detector, program), decode, grid, notes)


def disagreements(file: DetectorSpec, weights: DetectorSpec) -> list[str]:
    """Return the differences of a file from weights, as `width 256 in the file, 512 in the weights`."""
    pairs = [
        (name, getattr(file, name), getattr(weights, name))
        for name in DetectorSpec.model_fields
        if name not in NOT_COMPARABLE
    ]
    pairs.append(("input channels", file.input_channels, weights.input_channels))
    pairs.append(("neck_width", file.neck_width or file.width, weights.neck_width or weights.width))
    if weights.temporal_attention:
        pairs.append(("max_length", file.max_length, weights.max_length))
    if weights.relative_positions:
        pairs.append(("attention_heads", file.attention_heads, weights.attention_heads))
    if weights.structure == "tridet":
        pairs.append(("wide kernels", _wide_kernels(file), _wide_kernels(weights)))
    return [
        f"{name} {in_file} in the file, {in_weights} in the weights"
        for name, in_file, in_weights in pairs
        if in_file != in_weights
    ]


def _wide_kernels(spec: DetectorSpec) -> list[int]:
    return [wide_kernel(window, spec.sgp_scale) for window in spec.sgp_windows[1:]]


def _settings_in_code(weights: DetectorSpec) -> dict[str, Any]:
    kind = "convTransformer" if weights.structure == "actionformer" else "conv"
    hallucinated = weights.inputs == "hallucinated"
    values = (kind, hallucinated, weights.structure == "conv-dw", weights.gated_fusion)
    return dict(zip(SET_IN_CODE, values, strict=True))


def _with_window(spec: DetectorSpec, program: str) -> DetectorSpec:
    """Return the architecture; TriDet and TemporalMaxer never pad to attention windows."""
    return spec.model_copy(update={"attention_window": 1}) if program in ("tridet", "temporalmaxer") else spec


def _grid(data: Arguments) -> dict[str, float | None] | None:
    if data["force_upsampling"]:
        return None
    fps = data["default_fps"]
    return {
        "stride": float(data["feat_stride"]) * float(data["downsample_rate"]),
        "window": float(data["num_frames"]),
        "fps": None if fps is None else float(fps),
    }


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    """Return the mappings `dataset`, `model`, `train_cfg` and `test_cfg` of a file, empty if missing.

    Raises:
        InputError: If one of them is not a mapping.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"dataset", "model"} & content.keys():
        raise InputError(
            "no 'dataset' and no 'model' section",
            where=path,
            hint="give a configuration of the original program",
        )
    sections = {}
    for name in ("dataset", "model", "train_cfg", "test_cfg"):
        section = content.get(name) or {}
        if not isinstance(section, dict):
            raise InputError(f"'{name}' is not a mapping, got {section!r:.60}", where=path)
        sections[name] = section
    return sections
