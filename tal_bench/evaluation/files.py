"""Read and validate detections and ground truth from files of any program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tal_bench.config import brief
from tal_bench.errors import DataError
from tal_bench.evaluation.detection_table import abbreviate, parse_detections
from tal_bench.evaluation.label_alignment import Classes
from tal_bench.evaluation.matching import DETECTION_COLUMNS

EGO4D_RESULTS = "detect_results"
PICKLES = (".pkl", ".pickle")
PICKLE_HINT = "export the detections as CSV with columns video, start, end, label, score"
_GROUND_TRUTH_COLUMNS = ("video", "start", "end", "label", "label_id")


def read_detections(path: str | Path) -> pd.DataFrame:
    """Read detections from ActivityNet-style JSON or from a table.

    JSON: `{"results": {video: [{"segment": [s, e], "label": l, "score": p}]}}`, as written by this package,
    OpenTAD and ActivityNet's tools; Ego4D's key `detect_results` is accepted, too. Tables (`.csv`, `.tsv`,
    separated by comma, semicolon or tab): columns video, start, end, label, score, or their common aliases
    (video-id, t-start, t-end).

    Returns:
        Columns video (str), start, end (seconds), label, score. A label is an int where the file has a number
        (in a table: a whole number without quotes) and a str otherwise; names keep their spaces.
        `align_labels` says what a label means.

    Raises:
        DataError: The file is missing, malformed or a pickle.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise DataError("pickle files can run code and are not supported", where=path, hint=PICKLE_HINT)
    is_table = suffix in (".csv", ".tsv")
    table = parse_detections(_read_text(path), path) if is_table else _detections_json(path)
    _check_numbers(table, ("start", "end", "score"), path)
    return table


def read_video_names(path: str | Path) -> tuple[str, ...]:
    """Read video names from a JSON list, or from a text file with one name per line.

    Raises:
        DataError: The file is missing, empty or not such a list.
    """
    path = Path(path)
    text = _read_text(path)
    names = _parse_json(text, path) if text.lstrip().startswith(("[", "{")) else text.split("\n")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError("not a list of names", where=path, hint="give a JSON list, or one name per line")
    videos = tuple(name.strip() for name in names if name.strip())
    if not videos:
        raise DataError("contains no name", where=path, hint="give a JSON list, or one name per line")
    return videos


def read_ground_truth(
    path: str | Path, subset: str | None = None, *, drop_reversed: bool = False
) -> pd.DataFrame:
    """Read ground truth from ActivityNet-style JSON.

    Args:
        path: File with
            `{"database": {video: {"subset", "annotations": [{"segment", "label", "label_id"}]}}}`.
        subset: Name of the subset, case-insensitive; None for all videos.
        drop_reversed: Drop annotations that end before they start instead of raising an error; published
            MultiTHUMOS has a few, and public evaluations drop them. `.attrs["reversed"]` is their number.

    Returns:
        One row per annotation with columns video (str), start, end (seconds), label (str) and, if every
        annotation has one, label_id. `.attrs["videos"]` is the tuple of all videos of the subset, including
        those without annotations; `.attrs["classes"]` the `Classes` of all subsets.

    Raises:
        DataError: The file is missing or malformed, or the subset is unknown.
    """
    path = Path(path)
    content = load_json(path)
    database = _member(content, "database", path, "the file")
    if not isinstance(database, dict):
        raise DataError("'database' is not an object that maps videos to entries", where=path)
    videos = _videos_of(database, subset, path)
    rows = list(_annotations(database, videos, path))
    table = pd.DataFrame(rows, columns=list(_GROUND_TRUTH_COLUMNS))
    if table["label_id"].isna().any() or table.empty:
        table = table.drop(columns="label_id")
    else:
        table = table.astype({"label_id": np.int64})
    is_reversed = table["end"] < table["start"]
    if drop_reversed:
        table = table[~is_reversed].reset_index(drop=True)
    _check_numbers(table, ("start", "end"), path)
    table.attrs.update(
        videos=tuple(videos),
        reversed=int(is_reversed.sum()) if drop_reversed else 0,
        classes=_classes(content, database),
    )
    return table


def _detections_json(path: Path) -> pd.DataFrame:
    content = load_json(path)
    key = EGO4D_RESULTS if isinstance(content, dict) and EGO4D_RESULTS in content else "results"
    results = _member(content, key, path, "the file")
    if not isinstance(results, dict):
        raise DataError(f"{key!r} is not an object that maps videos to detections", where=path)
    rows = []
    for video, items in results.items():
        if not isinstance(items, list):
            raise DataError(f"results of video {brief(video)} are not a list", where=path)
        for k, item in enumerate(items):
            place = f"detection {k} of video {brief(video)}"
            start, end = _segment(item, path, place)
            score = _number(_member(item, "score", path, place), path, f"the score of {place}")
            rows.append((video, start, end, _label(item, path, place), score))
    return pd.DataFrame(rows, columns=list(DETECTION_COLUMNS)).astype(
        {"start": np.float64, "end": np.float64, "score": np.float64}
    )


def _videos_of(database: Mapping[str, Any], subset: str | None, path: Path) -> list[str]:
    subsets = {}
    for video, entry in database.items():
        if not isinstance(entry, dict):
            raise DataError(f"video {brief(video)} is not an object", where=path)
        subsets[video] = str(entry.get("subset", ""))
    if subset is None:
        return list(subsets)
    videos = [video for video, name in subsets.items() if name.lower() == subset.lower()]
    if not videos:
        known = ", ".join(sorted({name for name in subsets.values() if name})) or "no subsets"
        raise DataError(f"no video of subset {subset!r}", where=path, hint=f"the file has {known}")
    return videos


def _annotations(
    database: Mapping[str, Any], videos: list[str], path: Path
) -> Iterator[tuple[str, float, float, Any, Any]]:
    for video in videos:
        items = database[video].get("annotations", [])
        if not isinstance(items, list):
            raise DataError(f"annotations of video {brief(video)} are not a list", where=path)
        for k, item in enumerate(items):
            place = f"annotation {k} of video {brief(video)}"
            start, end = _segment(item, path, place)
            label_id = item.get("label_id")
            if label_id is not None and not _is_id(label_id):
                raise DataError(f"label_id of {place} is {brief(label_id)}, not a whole number", where=path)
            yield video, start, end, str(_label(item, path, place)), label_id


def _classes(content: Mapping[str, Any], database: Mapping[str, Any]) -> Classes:
    """Return the classes of a whole file; the annotations of other subsets may be malformed."""
    declared = content.get("classes")
    names = [name for name in declared if isinstance(name, str)] if isinstance(declared, list) else []
    ids: list[tuple[int, str]] = []
    for entry in database.values():
        items = entry.get("annotations") if isinstance(entry, dict) else None
        for item in items if isinstance(items, list) else ():
            label = item.get("label") if isinstance(item, dict) else None
            if not isinstance(label, str) and not _is_id(label):
                continue
            names.append(str(label))
            if _is_id(number := item.get("label_id")):
                ids.append((number, str(label)))
    return Classes.of(names, ids)


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # line ends may be part of a name
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from None
    except UnicodeDecodeError:
        raise DataError("not a text file", where=path, hint="give JSON or CSV in UTF-8") from None


def load_json(path: Path) -> Any:
    """Read a JSON file in UTF-8.

    Raises:
        DataError: The file cannot be read, is not JSON, or has an object with a repeated key.
    """
    return _parse_json(_read_text(path), path)


def _parse_json(text: str, path: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            (duplicate, _), *_ = Counter(key for key, _ in pairs).most_common(1)
            raise DataError(f"duplicate key {brief(duplicate)}", where=path, hint="remove one of the entries")
        return value

    try:
        value = json.loads(text, object_pairs_hook=unique)
        if "\\ud" in text.lower():  # an escape can be half of a character, which no file can hold
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        half = brief(error.object[error.start : error.end])
        raise DataError(f"has half of a character: {half}", where=path, hint="write it in UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON at line {error.lineno}: {error.msg}", where=path) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot parse JSON: {error}", where=path) from None


def _member(item: Any, key: str, path: Path, place: str) -> Any:
    if not isinstance(item, dict):
        raise DataError(f"{place} is not an object", where=path)
    if key not in item:
        keys = abbreviate(list(item)) or "nothing"
        raise DataError(f"{place} has no {key!r}", where=path, hint=f"it has {keys}")
    return item[key]


def _segment(item: Any, path: Path, place: str) -> tuple[float, float]:
    segment = _member(item, "segment", path, place)
    if not isinstance(segment, list) or len(segment) != 2:
        raise DataError(
            f"the segment of {place} is {brief(segment)}", where=path, hint="give [start, end] in seconds"
        )
    return _number(segment[0], path, f"the start of {place}"), _number(
        segment[1], path, f"the end of {place}"
    )


def _label(item: Mapping[str, Any], path: Path, place: str) -> Any:
    label = _member(item, "label", path, place)
    if label == "" or (not isinstance(label, str) and not _is_id(label)):
        raise DataError(
            f"the label of {place} is {brief(label)}", where=path, hint="give a name or a label id"
        )
    return label


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _number(value: Any, path: Path, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{place} is {brief(value)}, not a number", where=path)
    try:
        return float(value)
    except OverflowError:
        raise DataError(f"{place} is {brief(value)}, too large", where=path) from None


def _check_numbers(table: pd.DataFrame, columns: tuple[str, ...], path: Path) -> None:
    """Raise DataError if a number is not finite or a segment ends before it starts."""
    for column in columns:
        finite = np.isfinite(table[column].to_numpy(dtype=np.float64))
        if not finite.all():
            row = table.iloc[int(np.argmin(finite))]
            raise DataError(f"{column} is {row[column]} in a segment of video {row['video']!r}", where=path)
    is_reversed = (table["end"] < table["start"]).to_numpy()
    if is_reversed.any():
        row = table.iloc[int(np.argmax(is_reversed))]
        raise DataError(
            f"segment [{row['start']}, {row['end']}] of video {row['video']!r} ends before it starts",
            where=path,
        )
