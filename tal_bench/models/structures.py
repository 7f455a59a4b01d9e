"""Registry of detector structures: their blocks, and how they differ from ActionFormer.

A new structure is one `structures.add(...)`, here or in a plugin, which also registers its students and
teachers (`models.students_and_teachers`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from tal_bench.config import DetectorSpec, Size, parse_spec
from tal_bench.errors import InputError
from tal_bench.models.blocks.conv_and_transformer import ConvBlock, ConvLayer, TransformerBlock
from tal_bench.models.blocks.maxpool import MaxPoolBlock
from tal_bench.models.blocks.sgp import GROUPS, SgpBlock
from tal_bench.models.layers import Conv, SeparableConv
from tal_bench.registry import Registry


def attention_padding(spec: DetectorSpec) -> list[int]:
    """Return twice the reach of the attention window of the stem and of every branch block."""
    return [2 * (window // 2) if window > 1 else 1 for window in spec.windows]


@dataclass(frozen=True, slots=True)
class Structure:
    """Detector structure.

    Attributes:
        block: Function (spec, index, stride) -> block that maps features [B, T, D] and mask [B, T, 1] to the
            same at its stride; the stem has index 0 and stride 1, the branch 1 ... and stride 2.
        conv: Convolution of projections and embedding.
        detector: Changes to the architecture of ActionFormer (`DetectorSpec`).
        training: Changes to the training recipe (`TrainSpec`) by size of the dataset.
        decoding: Changes to the post-processing (`DecodeSpec`) by size of the dataset.
        padding: Function from the spec to a number of steps for the stem and for every branch block; inputs
            longer than `max_length` are padded to multiples of it at this level.
        width_multiple: Number that the width must be a multiple of.
        ignores_padding: Whether the block's results for valid steps do not depend on the number of padded
            steps, provided that there is one. Training batches are then padded only as far as their longest
            crop needs, otherwise to `max_length`.
    """

    block: Callable[[DetectorSpec, int, int], nn.Module]
    conv: ConvLayer = Conv
    detector: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[Size, Mapping[str, Any]] = field(default_factory=dict)
    decoding: Mapping[Size, Mapping[str, Any]] = field(default_factory=dict)
    padding: Callable[[DetectorSpec], Sequence[int]] = attention_padding
    width_multiple: int = 1
    ignores_padding: bool = False


structures: Registry[Structure] = Registry("structure")


def structure_of(spec: DetectorSpec, where: object = None) -> Structure:
    """Return the structure of an architecture.

    Raises:
        InputError: If it is unknown, or the architecture does not fit it.
    """
    structure = structures.get(spec.structure, where=where)
    if spec.width % structure.width_multiple:
        raise InputError(
            f"width: {spec.width} is not a multiple of {structure.width_multiple}, "
            f"as structure '{spec.structure}' requires",
            where=where,
        )
    return structure


def parse_detector(value: Mapping[str, Any], *, where: object) -> DetectorSpec:
    """Validate the fields of an architecture, also against its structure.

    Raises:
        InputError: If they are invalid, or the structure is unknown.
    """
    spec = parse_spec(DetectorSpec, value, where=where)
    structure_of(spec, where)
    return spec


def _transformer(spec: DetectorSpec, index: int, stride: int) -> nn.Module:
    return TransformerBlock(
        spec.width,
        spec.attention_heads,
        spec.windows[index],
        stride,
        spec.drop_path,
        scaled=spec.residual_scale,
        relative=spec.relative_positions,
    )


def _sgp(spec: DetectorSpec, index: int, stride: int) -> nn.Module:
    return SgpBlock(
        spec.width,
        spec.sgp_windows[index],
        spec.sgp_scale,
        spec.sgp_hidden or 3 * spec.width // 2,
        stride,
        pool=spec.sgp_pool,
        drop_path=spec.drop_path,
        scaled=spec.residual_scale and index > 0,
    )


# shorter crops in small networks that overfit within the recipe's epochs (docs/sprites.md)
structures.add(
    "actionformer",
    Structure(_transformer, training={"small": {"crop": (0.5, 1.0)}}, ignores_padding=True),
)
# structures without attention need no padding to windows, although C2MS-Net's code pads to them
structures.add(
    "conv",
    Structure(
        lambda spec, _, stride: ConvBlock(spec.width, stride),
        detector={"attention_window": 1},
        training={"small": {"crop": (0.5, 1.0)}},
        ignores_padding=True,
    ),
)
structures.add(
    "conv-dw",
    Structure(
        lambda spec, _, stride: ConvBlock(spec.width, stride, SeparableConv),
        conv=SeparableConv,
        detector={"attention_window": 1},
        ignores_padding=True,
    ),
)
structures.add(
    "tridet",
    Structure(
        _sgp,
        detector={"trident": True},
        training={
            "full": {
                "warmup_epochs": 20,
                "epochs": 20,
                "weight_decay": 0.025,
                "iou_power": 0.2,
                "input_noise": 5e-4,
            },
            "small": {"iou_power": 0.2},
        },
        decoding={
            "full": {"max_detections": 2000, "voting_weight": "score"},
            "small": {"voting_weight": "score"},
        },
        padding=lambda spec: [max(1, window) for window in spec.per_level(spec.sgp_window)],
        width_multiple=GROUPS,
    ),
)
structures.add(
    "temporalmaxer",
    Structure(
        lambda _spec, _, stride: MaxPoolBlock(stride),
        detector={"attention_window": 1, "stem_blocks": 0},
        ignores_padding=True,
    ),
)
