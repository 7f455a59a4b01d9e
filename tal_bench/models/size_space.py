"""Sizes of a student as settings: what is searched, and from a setting to the architecture.

A setting `student/width` stands for the fields of `DetectorSpec` that make the student wide, and so on. A
name that is none of `FIELDS` stands for the field of that name: a declared model may search any number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tal_bench.config import DetectorSpec, Range, Size, parse_spec

if TYPE_CHECKING:
    from tal_bench.models.registry import Model

PREFIX = "student/"
FIELDS: dict[str, tuple[str, ...]] = {
    "width": ("width", "head_width"),
    "depth": ("stem_blocks",),
    "kernel": ("embed_kernel", "head_kernel"),
    "hallucination": ("hallucination_width",),
}
"""What is tuned together: width of backbone and heads, blocks before the first stride, kernels of embedding
and heads, channels inside the hallucination. Levels stay: students learn from teachers level by level."""
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
"""Sizes that are searched, by the size of the networks; those of a registered model unless it has its own."""


def size_space(model: Model, architecture: DetectorSpec, size: Size) -> dict[str, Range]:
    """Settings of the sizes that make a difference to a model, and their ranges."""
    spaces = dict(model.search or SEARCH[size])
    if architecture.inputs != "hallucinated":
        spaces.pop("hallucination", None)
    if architecture.projection:  # its widths must sum to the student's
        spaces.pop("width", None)
    return {PREFIX + name: space for name, space in spaces.items()}


def sizes(architecture: DetectorSpec, names: Mapping[str, Any]) -> dict[str, float]:
    """What an architecture has for settings of these names."""
    found = {}
    for name in names:
        value = getattr(architecture, _fields(name)[0])
        found[name] = float(architecture.privileged_channels if value is None else value)
    return found


def sized(architecture: DetectorSpec, settings: Mapping[str, float], where: str) -> DetectorSpec:
    """The architecture with the sizes among the settings; others do not concern it.

    Raises:
        InputError: an unknown size, or a network that cannot be.
    """
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        if name.startswith(PREFIX):
            number = int(value) if float(value).is_integer() else value
            changes |= dict.fromkeys(_fields(name), number)
    if changes.get("hallucination_width") == architecture.privileged_channels:
        changes["hallucination_width"] = None  # as it is without the setting
    return (
        parse_spec(DetectorSpec, architecture.model_dump() | changes, where=where)
        if changes
        else architecture
    )


def short(settings: Mapping[str, float]) -> str:
    """`w32 d1 k3 h16`: the sizes among the settings; empty without."""
    found = {k.removeprefix(PREFIX): v for k, v in settings.items() if k.startswith(PREFIX)}
    return " ".join(f"{name[0] if name in FIELDS else f'{name}='}{value:g}" for name, value in found.items())


def _fields(setting: str) -> tuple[str, ...]:
    name = setting.removeprefix(PREFIX)
    return FIELDS.get(name, (name,))
