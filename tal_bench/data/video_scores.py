"""Reading of external class scores of whole videos, predicted by a video classifier."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError

EXPECTED = 'expected {"results": {video: [score, …]}, "class": [name, …]} or {video: {name: score}}'


def read_scores(path: Path, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read video-level class scores.

    Three formats are supported, with or without an enclosing `results` object: a list of scores per video
    with a list of class names (`class` or `classes`, as in ActivityNet's CUHK file), a list per video in the
    order of the dataset's classes, and an object from class name to score per video. Names are compared
    without regard to case, spaces and underscores. Classes that the dataset does not have are ignored.

    Args:
        path: JSON file.
        classes: Classes of the dataset, in the order of their indices.

    Returns:
        Scores [K] by video, in the order of ``classes``.

    Raises:
        DataError: The file is missing, is not JSON, has another format or lacks a class of the dataset.
    """
    content = _load(path)
    results = content.get("results", content)
    names = content.get("class", content.get("classes"))
    if not isinstance(results, dict) or not results:
        raise DataError("no scores of videos", where=path, hint=EXPECTED)
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise DataError("'class' is not a list of names", where=path, hint=EXPECTED)
    columns = _columns(names, classes, path) if names is not None else None
    return {
        str(video): _row(value, classes, columns, f"{path}, video '{video}'")
        for video, value in results.items()
        if video not in ("class", "classes", "version")
    }


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "put it there, or set 'scores: null' to train on the dataset's classes"
        raise DataError("missing file of video-level scores", where=path, hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=path) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=path) from None
    if not isinstance(content, dict):
        raise DataError("no scores of videos", where=path, hint=EXPECTED)
    return content


def _normalized(name: str) -> str:
    return name.casefold().replace("_", "").replace(" ", "")


def _columns(names: Sequence[str], classes: Sequence[str], where: object) -> list[int]:
    """Return the position of each class of the dataset among the names."""
    positions = {_normalized(name): index for index, name in enumerate(names)}
    absent = [name for name in classes if _normalized(name) not in positions]
    if absent:
        raise DataError(f"no scores of {len(absent)} classes, first '{absent[0]}'", where=where)
    return [positions[_normalized(name)] for name in classes]


def _row(
    value: Any, classes: Sequence[str], columns: Sequence[int] | None, where: str
) -> NDArray[np.float64]:
    if isinstance(value, Mapping):
        columns = _columns(list(value), classes, where)
        value = list(value.values())
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # the file of the HACS classifier has a list of one row
    width = len(classes) if columns is None else max(columns) + 1
    if not isinstance(value, list) or len(value) < width or (columns is None and len(value) != width):
        count = f"{len(value)} scores" if isinstance(value, list) else f"a {type(value).__name__}"
        raise DataError(f"{count}, expected {width} scores", where=where, hint=EXPECTED)
    try:
        row = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("a score is not a number", where=where, hint=EXPECTED) from None
    if not (np.isfinite(row).all() and (row >= 0).all()):
        raise DataError("a score is negative or not finite", where=where, hint="give probabilities")
    return row if columns is None else row[list(columns)]
