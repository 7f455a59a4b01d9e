"""Reading of external class scores of whole videos, predicted by a video classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_bench.errors import DataError
from tal_bench.evaluation.files import load_json

EXPECTED = 'expected {"results": {video: [score, …]}, "class": [name, …]} or {video: {name: score}}'


def read_scores(path: Path, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read video-level class scores.

    Three formats are supported, with or without an enclosing `results` object: a list of scores per video
    with a list of class names (`class` or `classes`, as in ActivityNet's CUHK file), a list per video in the
    order of the dataset's classes, and an object from class name to score per video. A class that the file
    does not have is the only one there that differs in case, spaces and underscores. Classes that the dataset
    does not have are ignored.

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
    if not path.exists():
        hint = "put it there, or set 'scores: null' to train on the dataset's classes"
        raise DataError("missing file of video-level scores", where=path, hint=hint)
    content = load_json(path)
    if not isinstance(content, dict):
        raise DataError("no scores of videos", where=path, hint=EXPECTED)
    return content


def _normalized(name: str) -> str:
    return name.casefold().replace("_", "").replace(" ", "")


def _columns(names: Sequence[str], classes: Sequence[str], where: object) -> list[int]:
    """Return the position of each class of the dataset among the names."""
    exact = {name: index for index, name in enumerate(names)}
    if len(exact) < len(names):
        repeated = next(name for index, name in enumerate(names) if exact[name] != index)
        raise DataError(f"class '{repeated}' is repeated in the scores", where=where)
    alike: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        alike.setdefault(_normalized(name), []).append(index)
    columns = {name: [exact[name]] if name in exact else alike.get(_normalized(name), []) for name in classes}
    absent = [name for name, found in columns.items() if not found]
    if absent:
        raise DataError(f"no scores of {len(absent)} classes, first '{absent[0]}'", where=where)
    several = [name for name, found in columns.items() if len(found) > 1]
    if several or len({found[0] for found in columns.values()}) < len(classes):
        first = several[0] if several else classes[0]
        what = f"names of scores and classes such as '{first}' differ only in case, spaces or underscores"
        raise DataError(what, where=where, hint="write the names of the classes")
    return [index for (index,) in columns.values()]


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
