"""Sizes of a student as settings: search ranges, and the architecture of given settings.

A setting `student/NAME` sets the fields `FIELDS[NAME]` of `DetectorSpec`, or the field NAME itself if it is
not in `FIELDS`; a registered model may search any numeric field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tal_bench.config import DetectorSpec, Range, Search, Size
from tal_bench.models.structures import parse_detector

if TYPE_CHECKING:
    from tal_bench.models.registry import Model

PREFIX = "student/"
FIELDS: dict[str, tuple[str, ...]] = {
    "width": ("width", "head_width"),
    "depth": ("stem_blocks",),
    "kernel": ("embed_kernel", "head_kernel"),
    "hallucination": ("hallucination_width",),
}
"""Fields that are tuned together: width of backbone and heads, blocks before the first stride, kernels of
embedding and heads, channels inside the hallucination. The number of levels is fixed, because students are
distilled level by level."""
SEARCH: dict[Size, dict[str, Range]] = {
    "full": {
        "width": Range(low=128, high=768, log=False, step=128),
        "depth": Range(low=0, high=3, log=False, step=1),
        "kernel": Range(low=1, high=5, log=False, step=2),
        "hallucination": Range(low=128, high=1024, log=False, step=128),
    },
    "small": {
        "width": Range(low=16, high=80, log=False, step=16),
        "depth": Range(low=0, high=2, log=False, step=1),
        "kernel": Range(low=1, high=5, log=False, step=2),
        "hallucination": Range(low=8, high=64, log=False, step=8),
    },
}
"""Default search ranges by size of the networks; a registered model may have its own."""


def size_space(model: Model, architecture: DetectorSpec, size: Size) -> dict[str, Range]:
    """Return the size settings that have an effect on a model, with their search ranges."""
    spaces = dict(model.search or SEARCH[size])
    if architecture.inputs != "hallucinated":
        spaces.pop("hallucination", None)
    if architecture.projection:  # the projected widths must sum to the width
        spaces.pop("width", None)
    return {PREFIX + name: space for name, space in spaces.items()}


def sizes(architecture: DetectorSpec, names: Mapping[str, Any]) -> dict[str, float]:
    """Return the values of the named settings in an architecture."""
    values = {}
    for name in names:
        value = getattr(architecture, _fields(name)[0])
        values[name] = float(architecture.privileged_channels if value is None else value)
    return values


def largest_sizes(space: Mapping[str, Search]) -> dict[str, float]:
    """Return the largest value of every size among searched settings."""
    return {
        name: max(values.values if isinstance(values, Range) else values)
        for name, values in space.items()
        if name.startswith(PREFIX)
    }


def sized(architecture: DetectorSpec, settings: Mapping[str, float], where: str) -> DetectorSpec:
    """Return the architecture with the size settings applied; other settings are ignored.

    Raises:
        InputError: If a size is unknown or the resulting architecture is invalid.
    """
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name.startswith(PREFIX):
            number = int(value) if float(value).is_integer() else value
            changes |= dict.fromkeys(_fields(name), number)
    if changes.get("hallucination_width") == architecture.privileged_channels:
        changes["hallucination_width"] = None  # the default
    return parse_detector(architecture.model_dump() | changes, where=where) if changes else architecture


def short(settings: Mapping[str, float]) -> str:
    """Return the size settings as a short text such as `w32 d1 k3 h16`, empty if there are none."""
    sizes_ = {k.removeprefix(PREFIX): v for k, v in settings.items() if k.startswith(PREFIX)}
    return " ".join(f"{name[0] if name in FIELDS else f'{name}='}{value:g}" for name, value in sizes_.items())


def _fields(setting: str) -> tuple[str, ...]:
    name = setting.removeprefix(PREFIX)
    return FIELDS.get(name, (name,))
