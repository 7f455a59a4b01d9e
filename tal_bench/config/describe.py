"""Descriptions of the fields of a spec, taken from its docstring."""

from __future__ import annotations

import inspect
import json
import re

from pydantic_core import to_jsonable_python

from tal_bench.config.base import Spec

FIELD = re.compile(r"^    (\w+): (.*(?:\n     +.*)*)", re.MULTILINE)
"""Entry of a docstring's `Attributes:` section: the name, and the text with its continuation lines."""


def describe(kind: type[Spec]) -> list[tuple[str, str, str]]:
    """Return name, default in YAML notation (`-` for a required field) and description of every field."""
    texts = [inspect.getdoc(base) or "" for base in reversed(kind.__mro__) if issubclass(base, Spec)]
    meaning = {name: " ".join(entry.split()) for text in texts for name, entry in FIELD.findall(text)}
    return [
        (
            name,
            "-" if field.is_required() else json.dumps(to_jsonable_python(field.default)),
            meaning[name],
        )
        for name, field in kind.model_fields.items()
    ]
