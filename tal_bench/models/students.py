"""Declared students: every structure with the primary modalities, with or without hallucination."""

from __future__ import annotations

from itertools import product
from typing import cast

from tal_bench.config import Inputs, Size
from tal_bench.models.registry import STRUCTURES, Model, model_name, students

INPUTS: dict[Inputs, str] = {
    "primary": "primary modalities alone",
    "hallucinated": "primary modalities, privileged ones hallucinated from them",
}

for _structure, (_inputs, _text), _ta, _size in product(
    STRUCTURES, INPUTS.items(), (False, True), cast("tuple[Size | None, ...]", (None, "small"))
):
    _name = model_name(_structure, _inputs, temporal_attention=_ta, size=_size)
    students.add(_name, Model(_name, _structure, _inputs, _ta, _size, summary=_text))
