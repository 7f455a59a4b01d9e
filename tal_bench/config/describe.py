"""What the fields of a spec mean, as its docstring says it."""

from __future__ import annotations

import inspect
import json
import re

from pydantic_core import to_jsonable_python

from tal_bench.config.base import Spec

FIELD = re.compile(r"^    (\w+): (.*(?:\n     +.*)*)", re.MULTILINE)
"""A name, and its text with the deeper lines that continue it, below `Attributes:`."""


def describe(kind: type[Spec]) -> list[tuple[str, str, str]]:
    """Name, default as YAML has it, and meaning of every field; `-` where there is no default."""
    texts = [inspect.getdoc(base) or "" for base in reversed(kind.__mro__) if issubclass(base, Spec)]
    meanings = {name: " ".join(said.split()) for text in texts for name, said in FIELD.findall(text)}
    return [
        (name, "-" if field.is_required() else json.dumps(to_jsonable_python(field.default)), meanings[name])
        for name, field in kind.model_fields.items()
    ]
