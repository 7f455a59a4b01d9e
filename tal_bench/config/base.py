"""What all specifications share: the base class, number types, hashing, and their YAML form."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tal_bench.errors import InputError
from tal_bench.registry import did_you_mean

Structure = Literal["transformer", "conv", "conv_dw", "sgp", "maxpool"]
Inputs = Literal["all", "primary", "privileged", "hallucinated"]
Size = Literal["full", "small"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even, need an odd number")
    return value


OddCount = Annotated[int, Field(ge=1), AfterValidator(_odd)]
Window = int | tuple[int, ...]


class Spec(BaseModel):
    """Base of all specifications: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def content_hash(value: Any, digits: int = 16) -> str:
    """Hash a JSON-able value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


S = TypeVar("S", bound=Spec)


def parse_spec(kind: type[S], value: Any, *, where: object) -> S:
    """Validate plain data against a spec.

    Raises:
        InputError: names the first offending key, the value received, and the closest known key.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(first["loc"][-1]), _known_keys(kind, first["loc"][:-1]))
            raise InputError(f"unknown key '{key}'", where=where, hint=hint) from None
        message = first["msg"].removeprefix("Value error, ")
        received = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        whole = not first["loc"] and first["type"] == "value_error"  # such a message names its keys itself
        place = "" if whole else f"{key}: "
        raise InputError(f"{place}{message}{received}", where=where) from None


def _known_keys(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Fields of the spec that lies at ``path`` inside ``kind``."""
    for part in path:
        field = kind.model_fields.get(str(part))
        inner = (
            [
                t
                for t in getattr(field.annotation, "__args__", (field.annotation,))
                if isinstance(t, type) and issubclass(t, BaseModel)
            ]
            if field
            else []
        )
        kind = inner[0] if inner else kind
    return list(kind.model_fields)


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises:
        InputError: missing, unreadable or not YAML; the message names the line.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", where=path) from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f" at line {line + 1}" if line is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not valid YAML{place}: {problem}", where=path) from None
