"""Base class and number types of the specifications, content hashing, and reading of YAML files."""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tal_bench.errors import InputError
from tal_bench.registry import did_you_mean

Inputs = Literal["all", "primary", "privileged", "hallucinated", "decomposed"]
Size = Literal["full", "small"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


def _validate_odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be an odd number")
    return value


def _validate_folder_name(value: str) -> str:
    if not value.strip() or len(value) > 100 or value.startswith(".") or not value.isprintable():
        raise ValueError("not a valid folder name")
    if set(value) & set("/\\:"):
        raise ValueError("not a valid folder name, remove '/', '\\' and ':'")
    return value


FolderName = Annotated[str, AfterValidator(_validate_folder_name)]
OddCount = Annotated[int, Field(ge=1), AfterValidator(_validate_odd)]
Window = int | tuple[int, ...]


class Spec(BaseModel):
    """Base class of all specifications: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def content_hash(value: Any, digits: int = 16) -> str:
    """Return the SHA-256 of a JSON-serializable value, shortened and independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def without_later_fields(value: dict[str, Any], later: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """Drop fields that were added later where they have their default, so that earlier hashes stay valid.

    Args:
        value: Plain data of a spec or of some of its parts, changed in place.
        later: Place, such as `train.batch_size`, and default of every such field.

    Returns:
        The data.
    """
    for place, default in later:
        *parts, name = place.split(".")
        holder = reduce(lambda part, key: part.get(key, {}), parts, value)
        if name in holder and holder[name] == default:
            holder.pop(name)
    return value


S = TypeVar("S", bound=Spec)


def parse_spec(kind: type[S], value: Any, *, where: object) -> S:
    """Validate plain data against a spec.

    Args:
        kind: Class of the spec.
        value: Data to validate, as read from YAML or JSON.
        where: File or place that error messages name.

    Raises:
        InputError: The data do not match the spec. The message names the first offending key, the value
            received, and the closest known key.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        # A misspelt key also leaves the correct one missing; report the misspelling, not the missing key.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(first["loc"][-1]), _known_keys(kind, first["loc"][:-1]))
            raise InputError(f"unknown key '{key}'", where=where, hint=hint) from None
        message = first["msg"].removeprefix("Value error, ")
        received = "" if isinstance(first["input"], dict) else f", got {brief(first['input'])}"
        names_its_keys = not first["loc"] and first["type"] == "value_error"  # raised by a model validator
        prefix = "" if names_its_keys else f"{key}: "
        raise InputError(f"{prefix}{message}{received}", where=where) from None


def brief(value: Any) -> str:
    """Return the `repr` of a value, truncated to fit into an error message."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, 80, 80
    try:
        return short.repr(value)
    except ValueError:  # an integer with thousands of digits
        return f"a {type(value).__name__}"


def _known_keys(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the spec at ``path`` inside ``kind``."""
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


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML loader that rejects repeated keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key.value}' is repeated", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises:
        InputError: The file is missing, unreadable or not valid YAML; the message names the line.
    """
    try:
        loader = _UniqueKeys(path.read_text(encoding="utf-8-sig"))
        return loader.get_single_data()
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise InputError("cannot be read: not a UTF-8 text file", where=path) from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        position = f" at line {line + 1}" if line is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not valid YAML{position}: {problem}", where=path) from None
    except (ValueError, RecursionError) as error:  # invalid dates, very long numbers, deep nesting
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"not valid YAML: {reason}", where=path) from None
