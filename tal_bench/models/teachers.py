"""Declared teachers: every structure with all modalities, and with the privileged ones alone."""

from __future__ import annotations

from itertools import product
from typing import cast

from tal_bench.config import Inputs, Size
from tal_bench.models.registry import STRUCTURES, Model, model_name, teachers

INPUTS: dict[Inputs, str] = {"all": "all modalities", "privileged": "privileged modalities alone"}

for _structure, (_inputs, _text), _ta, _size in product(
    STRUCTURES, INPUTS.items(), (False, True), cast("tuple[Size | None, ...]", (None, "small"))
):
    _name = model_name(_structure, _inputs, temporal_attention=_ta, size=_size)
    teachers.add(_name, Model(_name, _structure, _inputs, _ta, _size, summary=_text))
